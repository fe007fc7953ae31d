//! JSON pointers (RFC 6901), by which every refusal names its place.

/// Goes on from `pointer` to the member `name`.
pub fn push(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
}

/// The pointer to the member `name` of what `parent` points to.
pub fn member(parent: &str, name: &str) -> String {
    let mut pointer = parent.to_owned();
    push(&mut pointer, name);
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_what_separates_it() {
        for (parent, name, expected) in [("", "a/b~c", "/a~1b~0c"), ("/tags", "~/", "/tags/~0~1"), ("/tags", "", "/tags/")] {
            assert_eq!(member(parent, name), expected);
        }
    }
}
