//! Options of a stage, as they stand in a pipeline's description: read strictly, so that a slip is told at load.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use servekit_core::quoted;

/// Options of one stage. Every key is known, or there would be none of these.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    kind: &'static str,
    given: Option<&'a Map<String, Value>>,
}

impl<'a> Options<'a> {
    /// Checks that every key is one of `keys`.
    pub(crate) fn read(kind: &'static str, keys: &[&str], options: &'a Value) -> Result<Self, String> {
        let given = match options {
            Value::Null => None,
            Value::Object(given) => Some(given),
            other => return Err(format!("stage {kind}: options are {}, an object is allowed", shown(other))),
        };
        let unknown = given.into_iter().flat_map(Map::keys).find(|key| !keys.contains(&key.as_str()));
        if let Some(key) = unknown {
            return Err(format!(
                "stage {kind}: option '{}' is unknown; did you mean '{}'? allowed are {}",
                quoted(key.as_bytes()),
                nearest(key, keys),
                quoted_list(keys)
            ));
        }
        Ok(Self { kind, given })
    }

    /// One of these words.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.parsed(key, &format!("one of {}", quoted_list(&words)), |value| {
            let given = value.as_str()?;
            choices.iter().find(|(word, _)| *word == given).map(|(_, choice)| *choice)
        })
    }

    /// A whole number in this range.
    pub(crate) fn number(&self, key: &str, allowed: RangeInclusive<u32>) -> Result<Option<u32>, String> {
        let text = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let parse = |value: &Value| u32::try_from(value.as_u64()?).ok().filter(|number| allowed.contains(number));
        self.parsed(key, &text, parse)
    }

    /// A whole number in this range, which may be negative.
    pub(crate) fn integer(&self, key: &str, allowed: RangeInclusive<i64>) -> Result<Option<i64>, String> {
        let text = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        self.parsed(key, &text, |value| value.as_i64().filter(|number| allowed.contains(number)))
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.parsed(key, "true or false", Value::as_bool)
    }

    /// Any text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        self.parsed(key, "a text", Value::as_str)
    }

    /// Any texts.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, String> {
        self.parsed(key, "a list of texts", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// A level of grey, or three levels: one for each channel in the image's own order.
    pub(crate) fn colour(&self, key: &str) -> Result<Option<[u8; 3]>, String> {
        let level = |value: &Value| u8::try_from(value.as_u64()?).ok();
        self.parsed(key, "a whole number from 0 to 255, or a list of three", |value| match value {
            Value::Array(levels) => match levels.as_slice() {
                [first, second, third] => Some([level(first)?, level(second)?, level(third)?]),
                _ => None,
            },
            grey => level(grey).map(|level| [level; 3]),
        })
    }

    /// What is said about an option that is missing, or does not go with another.
    pub(crate) fn wrong(&self, text: &str) -> String {
        format!("stage {}: {text}", self.kind)
    }

    fn parsed<T>(
        &self,
        key: &str,
        allowed: &str,
        parse: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.given.and_then(|given| given.get(key)) else { return Ok(None) };
        let wrong = || self.wrong(&format!("option '{key}' is {}, {allowed} is allowed; correct it", shown(value)));
        parse(value).map(Some).ok_or_else(wrong)
    }
}

/// `'a', 'b', 'c'`.
pub(crate) fn quoted_list(words: &[&str]) -> String {
    format!("'{}'", words.join("', '"))
}

/// The one of `words` that takes the fewest changes of a letter, wherever its parts stand: `max_length` means
/// `length_max`. The first of them where several do.
pub(crate) fn nearest<'a>(given: &str, words: &[&'a str]) -> &'a str {
    let given: Vec<char> = sorted_parts(given).chars().collect();
    words.iter().min_by_key(|word| distance(&given, &sorted_parts(word))).copied().unwrap_or("")
}

fn sorted_parts(word: &str) -> String {
    // Longer texts are no slip of the pen, and comparing them costs their square.
    const LETTERS_MAX: usize = 64;
    let word = word.char_indices().nth(LETTERS_MAX).map_or(word, |(end, _)| &word[..end]);
    let mut parts: Vec<&str> = word.split(['_', '-']).collect();
    parts.sort_unstable();
    parts.join("_")
}

/// Letters to insert, remove or replace.
fn distance(given: &[char], word: &str) -> usize {
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (index, letter) in word.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in given.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[given.len()]
}

fn shown(value: &Value) -> String {
    quoted(value.to_string().as_bytes())
}
