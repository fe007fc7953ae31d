//! What a script is told, in MessagePack: numbers arrive in Lua as numbers, without a text to parse.

use crate::decision::amount::Amounts;
use crate::decision::rung::EXACT_MAX;
use crate::decision::time::Timestamp;

/// Doubles below this are exact, and so are sums of two of them.
pub(super) const EXACT: i64 = EXACT_MAX as i64;
/// The latest moment that a script can tell from later ones, in the year 2255.
const MOMENT_MAX: i64 = (1 << 53) - 1;

/// What most lists fit into, so that they do not grow.
const LIST_BYTES_USUALLY_MAX: usize = 128;

/// The elements of an array, as they will be sent.
#[derive(Default)]
pub(super) struct Pack {
    count: usize,
    bytes: Vec<u8>,
}

fn head(bytes: &mut Vec<u8>, count: usize) {
    match u16::try_from(count) {
        Ok(short) => {
            bytes.push(0xdc);
            bytes.extend(short.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0xdd);
            bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// These elements, one after the other.
pub(super) fn values(fill: impl FnOnce(&mut Pack)) -> Vec<u8> {
    let mut pack = Pack::with_capacity(LIST_BYTES_USUALLY_MAX);
    fill(&mut pack);
    pack.bytes
}

impl Pack {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            count: 0,
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// These elements after others, without an array around them.
    pub(super) fn behind(&self, first: &[u8]) -> Vec<u8> {
        [first, &self.bytes].concat()
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The head of a text that somebody else appends.
    pub(super) fn head_of_text(&mut self, bytes: usize) -> &mut Self {
        self.count += 1;
        self.number(0xdb, u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes())
    }

    /// These elements as the first ones of an array of `count`.
    pub(super) fn as_list_of(&self, count: usize) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.bytes.len() + 5);
        head(&mut whole, count);
        whole.extend(&self.bytes);
        whole
    }

    /// These elements after two others, as one array.
    pub(super) fn after(&self, first: i64, second: i64) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.bytes.len() + 32);
        head(&mut whole, self.count + 2);
        let mut start = Pack::default();
        start.int(first).int(second);
        whole.extend(start.bytes);
        whole.extend(&self.bytes);
        whole
    }

    pub(super) fn int(&mut self, number: i64) -> &mut Self {
        self.count += 1;
        match number {
            0..=0x7f => self.bytes.push(number as u8),
            0x80..=0xffff => return self.number(0xcd, (number as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => return self.number(0xce, (number as u32).to_be_bytes()),
            _ => return self.number(0xd3, number.to_be_bytes()),
        }
        self
    }

    /// What is told by its first byte and so many others, in one piece.
    fn number<const BYTES: usize>(&mut self, first: u8, others: [u8; BYTES]) -> &mut Self {
        let mut whole = [first; 9];
        whole[1..=BYTES].copy_from_slice(&others);
        self.bytes.extend_from_slice(&whole[..=BYTES]);
        self
    }

    /// A number that may be beyond what a double holds exactly; such a one is sent as text.
    pub(super) fn wide(&mut self, number: i64) -> &mut Self {
        if (-EXACT + 1..EXACT).contains(&number) {
            self.int(number)
        } else {
            self.text(number.to_string().as_bytes())
        }
    }

    pub(super) fn moment(&mut self, moment: Timestamp) -> &mut Self {
        self.int(micros(moment))
    }

    pub(super) fn no(&mut self) -> &mut Self {
        self.yes_or_no(false)
    }

    pub(super) fn yes_or_no(&mut self, yes: bool) -> &mut Self {
        self.count += 1;
        self.bytes.push(if yes { 0xc3 } else { 0xc2 });
        self
    }

    pub(super) fn text(&mut self, text: &[u8]) -> &mut Self {
        self.head_of_text(text.len()).bytes.extend(text);
        self
    }

    pub(super) fn list(&mut self, fill: impl FnOnce(&mut Pack)) -> &mut Self {
        let mut inner = Pack::with_capacity(LIST_BYTES_USUALLY_MAX);
        fill(&mut inner);
        self.count += 1;
        head(&mut self.bytes, inner.count);
        self.bytes.extend(inner.bytes);
        self
    }

    pub(super) fn texts<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> &mut Self {
        self.list(|list| {
            for text in texts {
                list.text(text.as_bytes());
            }
        })
    }

    /// Amounts that were used or claimed. What lies beyond the exact ones is cut off there, on both sides of each comparison.
    pub(super) fn amounts(&mut self, amounts: Amounts) -> &mut Self {
        let cut = |amount: i64| amount.clamp(0, EXACT - 1);
        self.list(|list| {
            list.int(cut(amounts.tokens)).int(cut(amounts.usd));
            list.int(cut(amounts.requests)).int(cut(amounts.credits));
        })
    }
}

/// A moment as scripts know it.
pub(super) fn micros(moment: Timestamp) -> i64 {
    moment.micros().clamp(0, MOMENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MessagePack, "int format family": the first byte says how many others there are.
    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (number, bytes) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0xcd, 0, 0x80]),
            (0xffff, vec![0xcd, 0xff, 0xff]),
            (0x1_0000, vec![0xce, 0, 1, 0, 0]),
            (0xffff_ffff, vec![0xce, 0xff, 0xff, 0xff, 0xff]),
            (0x1_0000_0000, vec![0xd3, 0, 0, 0, 1, 0, 0, 0, 0]),
            (-1, vec![0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(values(|pack| _ = pack.int(number)), bytes, "{number}");
        }
    }
}
