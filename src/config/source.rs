//! Where a key was said: which line of which file, or which flag; and what was probably meant.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Overrides;
use super::error::{ConfigError, Fault, Place};
use super::shape::Shape;

/// Letters that may be wrong in a key for it still to be guessed.
const TYPOS_MAX: usize = 2;

/// Where every key is explained.
const EXAMPLE: &str = "tuning/millrace.example.toml";

/// What ends the name of a key that counts in it.
const UNITS: [(&str, &str); 4] = [
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
    ("_days", "days"),
    ("_bytes", "bytes"),
];

/// # Errors
/// The file is not there, is larger than `max` bytes, or is not text.
pub(super) fn read(path: &Path, max: u64) -> Result<String, ConfigError> {
    let fault = |wrong: String, remedy: &str| ConfigError {
        place: Place::File {
            path: path.to_owned(),
            line: None,
        },
        key: None,
        wrong,
        remedy: remedy.to_owned(),
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let remedy = format!("Name a file that can be read; `{EXAMPLE}` is one to begin with");
            fault(format!("it cannot be read: {error}"), &remedy)
        })?;
    if bytes.len() as u64 > max {
        return Err(fault(
            format!("it has more than {max} bytes"),
            "Name a configuration file",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fault(format!("byte {at} is not UTF-8"), "Save it as UTF-8")
    })
}

/// What a configuration was made from.
pub(super) struct Source<'a> {
    file: Option<(&'a Path, &'a str)>,
    overrides: &'a Overrides,
}

impl<'a> Source<'a> {
    pub fn file(path: &'a Path, text: &'a str, overrides: &'a Overrides) -> Self {
        Self {
            file: Some((path, text)),
            overrides,
        }
    }

    pub fn defaults(overrides: &'a Overrides) -> Self {
        Self { file: None, overrides }
    }

    /// A value that a check refused.
    pub fn refused(&self, fault: Fault) -> ConfigError {
        let place = match (self.overrides.flag(fault.key), self.file) {
            (Some(flag), _) => Place::Flag(flag),
            (None, Some((path, text))) => Place::File {
                path: path.to_owned(),
                line: start_of(text, fault.key).map(|at| line_at(text, at)),
            },
            (None, None) => Place::Defaults,
        };
        ConfigError {
            place,
            key: Some(fault.key.to_owned()),
            wrong: fault.wrong,
            remedy: fault.remedy,
        }
    }

    /// What is no TOML, or has a key that there is not, or a value of the wrong kind.
    pub fn unreadable(&self, error: &toml::de::Error) -> ConfigError {
        let (path, text) = self.file.unwrap_or((Path::new(""), ""));
        let at = error.span().map(|span| span.start);
        let key = at.and_then(|at| key_at(text, at));
        let (wrong, remedy) = match &key {
            _ if DeTable::parse(text).is_err() => {
                let word = error
                    .span()
                    .and_then(|span| text.get(span))
                    .filter(|word| is_name(word));
                let word = word.map(|word| format!(" `{word}`")).unwrap_or_default();
                let remedy = "Mend this line; strings stand in quotes, and no key twice";
                (plain(error.message()) + &word, remedy.to_owned())
            }
            None => (plain(error.message()), format!("Compare it with `{EXAMPLE}`")),
            Some(key) => {
                let known = Known::new();
                match known.value(key) {
                    Some(value) => (plain(error.message()), kind_of(key, value)),
                    None => ("there is no such key".to_owned(), known.meant_by(key)),
                }
            }
        };
        ConfigError {
            place: Place::File {
                path: path.to_owned(),
                line: at.map(|at| line_at(text, at)),
            },
            key,
            wrong,
            remedy,
        }
    }
}

/// What the parser expected, without the names of Rust's types.
fn plain(message: &str) -> String {
    let mut text = message.trim().replace('\n', ", ");
    for kind in ["u64", "u32"] {
        text = text.replace(&format!("expected {kind}"), "expected a whole number from 0 up");
    }
    if let Some(at) = text.find("expected struct ") {
        text.replace_range(at.., "expected a section");
    }
    text
}

/// What to write for a key, from its unit and its default.
fn kind_of(key: &str, default: &toml::Value) -> String {
    let leaf = leaf(key);
    if default.is_table() {
        return format!("Write `[{key}]` on a line of its own, and its keys below");
    }
    let unit = UNITS.iter().find(|(suffix, _)| leaf.ends_with(suffix));
    match unit {
        Some((_, unit)) => format!("Write a whole number of {unit}, without quotes and unit: `{leaf} = {default}`"),
        None if default.is_array() => format!("Write a list of whole numbers: `{leaf} = [1, 2]`"),
        None => format!("Write it as the default is written: `{leaf} = {default}`"),
    }
}

/// Whether it can stand in a message as the key that it is.
fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 64
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// The keys that there are, with their defaults.
struct Known(toml::Table);

impl Known {
    fn new() -> Self {
        Self(toml::Table::try_from(Shape::with_every_key()).unwrap_or_default())
    }

    /// Of a key, or of a section.
    fn value(&self, key: &str) -> Option<&toml::Value> {
        match key.split_once('.') {
            None => self.0.get(key),
            Some((section, leaf)) => section_of(self.0.get(section)?)?.get(leaf),
        }
    }

    /// Every key by its full name.
    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for (name, value) in &self.0 {
            match section_of(value) {
                None => keys.push(name.clone()),
                Some(section) => keys.extend(section.keys().map(|leaf| format!("{name}.{leaf}"))),
            }
        }
        keys
    }

    /// A remedy for a key that there is not.
    fn meant_by(&self, unknown: &str) -> String {
        let keys = self.keys();
        let find = |same: &dyn Fn(&str) -> bool| keys.iter().find(|key| same(key));
        if let Some(elsewhere) = find(&|key| leaf(key) == leaf(unknown)) {
            return match elsewhere.split_once('.') {
                Some((section, leaf)) => format!("`{leaf}` stands below `[{section}]`: move it there"),
                None => format!("`{elsewhere}` stands above the first `[section]`: move it there"),
            };
        }
        if let Some(other_unit) = find(&|key| without_unit(leaf(key)) == without_unit(leaf(unknown))) {
            let unit = UNITS.iter().find(|(suffix, _)| other_unit.ends_with(suffix));
            let counted = unit.map_or("a bare number", |(_, unit)| *unit);
            return format!("Write `{other_unit}`, which counts in {counted}");
        }
        let sections = self
            .0
            .iter()
            .filter(|(_, value)| section_of(value).is_some())
            .map(|(name, _)| name.as_str());
        let names = keys.iter().map(String::as_str).chain(sections);
        let nearest = names.map(|name| (typos(name, unknown), name)).min();
        match nearest {
            Some((typos, name)) if typos <= TYPOS_MAX => format!("Write `{name}`, if that was meant"),
            _ => format!("Remove it; `{EXAMPLE}` has every key there is"),
        }
    }
}

/// A section, or one of several.
fn section_of(value: &toml::Value) -> Option<&toml::Table> {
    match value {
        toml::Value::Table(section) => Some(section),
        toml::Value::Array(sections) => sections.first()?.as_table(),
        _ => None,
    }
}

fn leaf(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, leaf)| leaf)
}

fn without_unit(leaf: &str) -> &str {
    UNITS
        .iter()
        .find_map(|(suffix, _)| leaf.strip_suffix(suffix))
        .unwrap_or(leaf)
}

/// Letters to add, drop or change to make one of the other (Levenshtein).
fn typos(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// Counted from 1.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The byte at which a key's name begins, if it is there.
fn start_of(text: &str, key: &str) -> Option<usize> {
    fn search(table: &DeTable<'_>, key: &str) -> Option<usize> {
        let (name, below) = key
            .split_once('.')
            .map_or((key, None), |(name, below)| (name, Some(below)));
        let (known, value) = table.iter().find(|(known, _)| known.get_ref() == name)?;
        match (below, value.get_ref()) {
            (None, _) => Some(known.span().start),
            (Some(below), DeValue::Table(table)) => search(table, below),
            _ => None,
        }
    }
    let (document, _) = DeTable::parse_recoverable(text);
    search(document.get_ref(), key)
}

/// The full name of the innermost key whose name or value holds byte `at`.
fn key_at(text: &str, at: usize) -> Option<String> {
    fn search(table: &DeTable<'_>, at: usize) -> Option<String> {
        table.iter().find_map(|(name, value)| {
            let inner = match value.get_ref() {
                DeValue::Table(table) => search(table, at).map(|inner| format!("{}.{inner}", name.get_ref())),
                _ => None,
            };
            let here = |span: std::ops::Range<usize>| span.contains(&at);
            let own = || (here(name.span()) || here(Spanned::span(value))).then(|| name.get_ref().to_string());
            inner.or_else(own)
        })
    }
    let (document, _) = DeTable::parse_recoverable(text);
    search(document.get_ref(), at)
}
