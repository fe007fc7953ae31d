//! Why a server's certificate was refused, read from the words of the TLS library: stores are reached by clients that pass nothing else on.

/// What is wrong, as far as somebody can do something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Nobody who is trusted has signed it.
    Stranger,
    /// It is for another host than the one that was asked for.
    OtherName,
    /// It has expired, or is not valid yet.
    OtherTime,
    /// What answered was no TLS at all.
    NoTls,
}

/// Words of rustls, and of the clients where they speak first.
const WORDS: &[(&str, Refusal)] = &[
    ("UnknownIssuer", Refusal::Stranger),
    ("CaUsedAsEndEntity", Refusal::Stranger),
    ("not valid for name", Refusal::OtherName),
    ("NotValidForName", Refusal::OtherName),
    ("certificate expired", Refusal::OtherTime),
    ("certificate not valid yet", Refusal::OtherTime),
    ("InvalidContentType", Refusal::NoTls),
    ("does not support TLS", Refusal::NoTls),
];

impl Refusal {
    /// `None`: the error is about something else.
    pub fn read(told: &str) -> Option<Self> {
        let found = WORDS.iter().find(|(words, _)| told.contains(words));
        found.map(|(_, refusal)| *refusal)
    }
}
