//! One look at a body before it is read: how deep it nests, and whether an object names a member twice. serde_json refuses neither in
//! all places, and a name that is there twice means one thing to us and another to whoever logged or approved the request.
//!
//! It never recurses, and does not check the rest of the grammar: that is the reader's. On text that is no JSON it may find anything or
//! nothing, but it ends, in linear time (n log n for an object of n members).

use crate::decision::pointer;
use std::borrow::Cow;

pub(super) const DEPTH_MAX: usize = 64;
/// Objects of so many members are compared pair by pair, which is faster than sorting.
const PAIRWISE_MEMBERS_MAX: usize = 16;

/// What a body was seen to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub arrays: bool,
}

/// Why a body is refused at first sight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    TooDeep,
    /// The JSON pointer to the member that is there twice.
    Doubled(String),
}

/// An object or array that is open.
#[derive(Clone, Copy)]
struct Frame {
    is_object: bool,
    /// Where its members' names begin in the list of all names.
    names_from: usize,
    /// How many commas it has had: the index of an array's current item.
    commas: usize,
}

struct Scan<'a> {
    frames: Vec<Frame>,
    names: Vec<Cow<'a, str>>,
    /// Inside an object, the next string is a name.
    name_comes: bool,
    arrays: bool,
}

pub(super) fn scan(text: &str) -> Result<Seen, Finding> {
    let mut scan = Scan {
        frames: Vec::with_capacity(8),
        names: Vec::with_capacity(32),
        name_comes: false,
        arrays: false,
    };
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                if scan.name_comes {
                    scan.name(&text[at..end]);
                }
                at = end;
                continue;
            }
            b'{' => scan.open(true)?,
            b'[' => scan.open(false)?,
            b'}' | b']' => scan.close()?,
            b',' => scan.comma(),
            _ => {}
        }
        at += 1;
    }
    Ok(Seen { arrays: scan.arrays })
}

/// The index after the string that begins at `from`, quotes included; the end of the text if it is not closed.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            // Whatever is escaped, its first byte is not the end. A body that ends here is not JSON.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

impl<'a> Scan<'a> {
    fn open(&mut self, is_object: bool) -> Result<(), Finding> {
        if self.frames.len() == DEPTH_MAX {
            return Err(Finding::TooDeep);
        }
        self.frames.push(Frame {
            is_object,
            names_from: self.names.len(),
            commas: 0,
        });
        self.name_comes = is_object;
        self.arrays |= !is_object;
        Ok(())
    }

    fn comma(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.commas += 1;
            self.name_comes = frame.is_object;
        }
    }

    /// Takes a member's name, `quoted` as it stands in the text.
    fn name(&mut self, quoted: &'a str) {
        self.name_comes = false;
        let plain = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
        let name = if plain.contains('\\') {
            // What is escaped is compared as what it means. A bad escape is no JSON, which the reader will say.
            serde_json::from_str(quoted).map_or(Cow::Borrowed(plain), Cow::Owned)
        } else {
            Cow::Borrowed(plain)
        };
        self.names.push(name);
    }

    fn close(&mut self) -> Result<(), Finding> {
        self.name_comes = false;
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if let Some(name) = doubled(&mut self.names[frame.names_from..]) {
            return Err(Finding::Doubled(self.pointer(frame.names_from, &name)));
        }
        self.names.truncate(frame.names_from);
        Ok(())
    }

    /// The pointer to member `name` of the object that was just closed, whose names began at `names_from`.
    fn pointer(&self, names_from: usize, name: &str) -> String {
        let mut pointer = String::new();
        for (depth, frame) in self.frames.iter().enumerate() {
            let names_end = self.frames.get(depth + 1).map_or(names_from, |inner| inner.names_from);
            match self.names.get(names_end.wrapping_sub(1)) {
                Some(current) if frame.is_object => pointer::push(&mut pointer, current),
                _ => pointer::push(&mut pointer, &frame.commas.to_string()),
            }
        }
        pointer::push(&mut pointer, name);
        pointer
    }
}

/// A name that is there twice. May reorder the names: whoever asks is done with them.
fn doubled(names: &mut [Cow<'_, str>]) -> Option<String> {
    if names.len() <= PAIRWISE_MEMBERS_MAX {
        let again = |(index, name): &(usize, &Cow<'_, str>)| names[..*index].contains(name);
        return names.iter().enumerate().find(again).map(|(_, name)| name.to_string());
    }
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_member_is_found_wherever_it_stands() {
        let many = (0..40).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
        for (text, pointer) in [
            (r#"{"a":1,"a":2}"#.to_owned(), "/a"),
            (r#"{"a":1,"b":{"c":1,"c":1}}"#.to_owned(), "/b/c"),
            (r#"{"a":[1,{"x":0},{"y":1, "y" :2}]}"#.to_owned(), "/a/2/y"),
            (r#"[[{"a~b/c":{"":1,"":1}}]]"#.to_owned(), "/0/0/a~0b~1c/"),
            (r#"{"a":1,"\u0061":2}"#.to_owned(), "/a"),
            (r#"{"a\"":1,"a\u0022":2}"#.to_owned(), "/a\""),
            (r#"{"z":{"a":1},"a":{"z":1},"z":1}"#.to_owned(), "/z"),
            (format!("{{\"k7\":1,{many}}}"), "/k7"),
        ] {
            assert_eq!(scan(&text), Err(Finding::Doubled(pointer.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_only_looks_doubled_is_not() {
        for text in [
            r#"{"a":"a","b":"a"}"#,
            r#"{"a":{"a":{"a":1}},"b":["a","a"]}"#,
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":"\"a\":1,\"a\"","b":"{\"a\":"}"#,
            r#"{"a":1,"A":1,"a ":1,"\\u0061":1}"#,
            r#"{"a":"\\","b":"\\\\"}"#,
        ] {
            assert!(scan(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit_and_brackets_in_strings_do_not_count() {
        let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
        assert_eq!(scan(&nested("[", "]", DEPTH_MAX)), Ok(Seen { arrays: true }));
        assert_eq!(scan(&nested("[", "]", DEPTH_MAX + 1)), Err(Finding::TooDeep));
        assert_eq!(scan(&nested("{\"a\":", "}", DEPTH_MAX + 1)), Err(Finding::TooDeep));
        assert_eq!(scan(&"[".repeat(10_000_000)), Err(Finding::TooDeep));
        assert_eq!(scan(&format!("\"{}\"", "[{".repeat(1_000))), Ok(Seen { arrays: false }));
        assert_eq!(scan(&"[],".repeat(1_000)), Ok(Seen { arrays: true }));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in r#"[\[\]{},:"\\a0 ]{0,40}"#) {
            let _ = scan(&text);
        }

        #[test]
        fn what_serde_json_takes_as_an_object_is_refused_only_with_a_doubled_name(names in proptest::collection::vec("[ab\"\\\\]{0,2}", 0..24)) {
            let members: Vec<String> = names.iter().map(|name| format!("{}:[\",\"]", serde_json::to_string(name).expect("text"))).collect();
            let distinct = names.iter().collect::<std::collections::HashSet<_>>().len() == names.len();
            proptest::prop_assert_eq!(scan(&format!("{{{}}}", members.join(","))).is_ok(), distinct);
        }
    }
}
