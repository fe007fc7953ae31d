//! The known name that somebody probably meant. Used wherever an unknown name is refused.

/// How many letters may differ before a name is another word instead of a typing error.
const EDITS_MAX: usize = 3;
/// Longer names are not compared: nobody mistypes them, and the comparison is quadratic.
const NAME_BYTES_MAX: usize = 64;

/// The name among `known` that is closest to `name`, if any is close enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = name.to_ascii_lowercase();
    // A third of the letters may be wrong, so that "role" is not taken for "mode".
    let allowed = (wanted.len() / 3).clamp(1, EDITS_MAX);
    let scored = known
        .into_iter()
        .map(|candidate| (edits(wanted.as_bytes(), candidate.to_ascii_lowercase().as_bytes()), candidate));
    scored
        // Of a short name at least half must be right: "x" is not meant for "id".
        .filter(|(distance, candidate)| *distance <= allowed && 2 * distance <= candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many bytes must be inserted, removed, changed or swapped with their neighbour (the optimal string alignment distance).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        rows.rotate_left(1);
        let [before, last, row] = &mut rows;
        row.clear();
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised_and_another_word_is_not() {
        let known = [
            "workspace_id",
            "user_id",
            "feature",
            "model",
            "hard",
            "soft",
            "period",
            "downgrade_to",
            "id",
            "n",
        ];
        for (name, expected) in [
            ("workspace", Some("workspace_id")),
            ("workspaceid", Some("workspace_id")),
            ("workspaceId", Some("workspace_id")),
            ("usr_id", Some("user_id")),
            ("modle", Some("model")),
            ("Model", Some("model")),
            ("hrad", Some("hard")),
            ("sofd", Some("soft")),
            ("perriod", Some("period")),
            ("downgradeto", Some("downgrade_to")),
            ("ids", Some("id")),
            ("role", None),
            ("budget", None),
            ("workspace_identifier", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
            ("modle", "model", 1),
        ] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
