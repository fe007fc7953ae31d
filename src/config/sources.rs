//! Where settings come from, and what is said when one of them is wrong: which setting, from where, and what is expected.

use super::secret::PLACEHOLDER;
use super::settings::{Row, Settings, TABLE};
use super::value::Setting;
use crate::decision::nearest::nearest;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

/// Begins the name of every variable.
const PREFIX: &str = "WEIR_";
/// Variables of the command line and of the tests, which are no settings.
const OTHER_VARIABLES: [&str; 4] = ["WEIR_CONFIG", "WEIR_TOKEN", "WEIR_UPDATE", "WEIR_TESTS_MAY_NOT_SKIP"];
/// Ends the name of a variable or key that names the file of a secret.
const FILE_SUFFIX: &str = "_file";
/// The longest file of a secret.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(&'static str),
    /// A file that holds a secret, and what names it.
    SecretFile(PathBuf, Box<Origin>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
            Origin::SecretFile(path, by) => write!(f, "{}, named by {by}", path.display()),
        }
    }
}

/// Everything that is wrong with the settings, one sentence each.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

/// What a process was given; arguments, so that tests need no environment.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Setting and value of each flag.
    pub flags: Vec<(&'static str, String)>,
    pub variables: Vec<(OsString, OsString)>,
    /// The file of `--config`.
    pub file: Option<PathBuf>,
}

impl Given {
    /// The variables of this process, with `flags` and `file` from its command line.
    pub fn of_process(flags: Vec<(&'static str, String)>, file: Option<PathBuf>) -> Self {
        Self {
            flags,
            variables: std::env::vars_os().collect(),
            file,
        }
    }
}

/// The effective settings and how they came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// What is odd, and no reason not to start.
    pub warnings: Vec<String>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Loaded {
    /// Merges what was given. Every value is checked by itself; see [`Loaded::check`] for all of them together.
    pub fn load(given: Given) -> Result<Self, ConfigError> {
        let mut values = Values::default();
        values.defaults();
        if let Some(path) = &given.file {
            values.file(path);
        }
        values.variables(given.variables);
        for (name, text) in given.flags {
            values.put(name, text, Origin::Flag(name));
        }
        match Settings::read(&mut values) {
            Some(settings) if values.wrong.is_empty() => {
                let origins = values.found.into_iter().map(|(name, (_, origin))| (name, origin)).collect();
                Ok(Self {
                    settings,
                    warnings: values.odd,
                    origins,
                })
            }
            _ => Err(ConfigError(values.wrong)),
        }
    }

    /// Whether the service can start with these settings.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = self.settings.conflicts();
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError(wrong)) }
    }

    /// Where the value of a setting came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// All settings as TOML, secrets hidden, each with its origin.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.settings.shown() {
            let line = match value {
                None => format!("# {name} is not set"),
                // Not as a value: a file with the placeholder in it must not be taken for one with a secret.
                Some(value) if value == PLACEHOLDER => format!("# {name} = {value}"),
                Some(value) => format!("{name} = {value}"),
            };
            let origin = self.origins.get(name).map(|origin| format!("  # {origin}")).unwrap_or_default();
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{line:<56}{origin}");
        }
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// Texts and origins of all settings on their way to [`Settings`], and what was noticed.
#[derive(Default)]
pub(super) struct Values {
    found: BTreeMap<&'static str, (String, Origin)>,
    wrong: Vec<String>,
    odd: Vec<String>,
}

impl Values {
    /// Reads one setting; what is wrong is kept and told with everything else.
    pub(super) fn read<T: Setting>(&mut self, name: &'static str) -> Option<T> {
        let Some((text, origin)) = self.found.get(name) else {
            return T::absent();
        };
        T::read(text)
            .map_err(|why| self.wrong.push(format!("{name} (from {origin}) {why}")))
            .ok()
    }

    fn put(&mut self, name: &'static str, text: String, origin: Origin) {
        self.found.insert(name, (text, origin));
    }

    fn defaults(&mut self) {
        for Row { name, default, .. } in TABLE {
            for default in *default {
                self.put(name, (*default).to_owned(), Origin::Default);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let entries = match entries_of(path) {
            Ok(entries) => entries,
            Err(error) => return self.wrong.push(format!("the file of --config, {}: {error}", path.display())),
        };
        let mut layer = Vec::new();
        for (name, value) in entries {
            match (known(&name), written(&value)) {
                (None, _) => self
                    .wrong
                    .push(format!("{}: {name} is not a setting{}", path.display(), hint(&name))),
                (Some(_), None) => self.wrong.push(format!(
                    "{name} (from {}) must be a text, a number or a list of them",
                    path.display()
                )),
                (Some(found), Some(text)) => layer.push((found, text)),
            }
        }
        self.layer(layer, |_| Origin::File(path.to_owned()));
    }

    fn variables(&mut self, variables: Vec<(OsString, OsString)>) {
        let mut layer = Vec::new();
        for (name, value) in variables {
            let is_ours = |name: &&str| name.starts_with(PREFIX) && !OTHER_VARIABLES.contains(name);
            let Some(name) = name.to_str().filter(is_ours) else {
                continue;
            };
            let short = name[PREFIX.len()..].to_lowercase();
            let Some(found) = known(&short).filter(|_| name == variable(&short)) else {
                self.odd.push(format!("{name} is not a setting{}", hint_variable(&short)));
                continue;
            };
            match value.into_string() {
                // Compose files and the like set what they do not have to nothing.
                Ok(text) if text.is_empty() => {}
                Ok(text) => layer.push((found, text)),
                Err(_) => self.wrong.push(format!("{name} is not UTF-8")),
            }
        }
        self.layer(layer, |name| Origin::Variable(variable(name)));
    }

    /// Takes the values of one source over those of weaker ones; a secret may be there itself or as the name of its file, not both.
    fn layer(&mut self, values: Vec<(Known, String)>, origin: impl Fn(&str) -> Origin) {
        for (known, text) in &values {
            match *known {
                Known::Itself(name) => self.put(name, text.clone(), origin(name)),
                Known::FileOf(name) => {
                    let by = origin(&format!("{name}{FILE_SUFFIX}"));
                    if values.iter().any(|(other, _)| *other == Known::Itself(name)) {
                        self.wrong
                            .push(format!("{name} is given twice, by {} and by {by}; give one", origin(name)));
                        continue;
                    }
                    let path = PathBuf::from(text);
                    match secret_in(&path) {
                        Ok(secret) => self.put(name, secret, Origin::SecretFile(path, Box::new(by))),
                        Err(why) => self.wrong.push(format!("{name} (from {}, named by {by}) {why}", path.display())),
                    }
                }
            }
        }
    }
}

/// What a name in a source stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Itself(&'static str),
    FileOf(&'static str),
}

fn known(name: &str) -> Option<Known> {
    let row = |name: &str| TABLE.iter().find(|row| row.name == name);
    if let Some(row) = row(name) {
        return Some(Known::Itself(row.name));
    }
    let row = row(name.strip_suffix(FILE_SUFFIX)?)?;
    row.is_secret.then_some(Known::FileOf(row.name))
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

fn closest(name: &str) -> Option<String> {
    let files = TABLE
        .iter()
        .filter(|row| row.is_secret)
        .map(|row| format!("{}{FILE_SUFFIX}", row.name));
    let all: Vec<String> = TABLE.iter().map(|row| row.name.to_owned()).chain(files).collect();
    nearest(name, all.iter().map(String::as_str)).map(str::to_owned)
}

fn hint(name: &str) -> String {
    closest(name)
        .map(|meant| format!("; did you mean {meant}?"))
        .unwrap_or_else(|| "; `weir config` lists them".to_owned())
}

fn hint_variable(name: &str) -> String {
    closest(name)
        .map(|meant| format!("; did you mean {}?", variable(&meant)))
        .unwrap_or_default()
}

fn entries_of(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Figment::from(Toml::string(&text))
        .extract()
        .map_err(|error| format!("it is not TOML: {error}"))
}

/// A value of the file as the text that a variable would have.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, b) => Some(b.to_string()),
        Value::Num(_, n) => n.to_i128().map(|n| n.to_string()).or_else(|| n.to_f64().map(|n| n.to_string())),
        Value::Array(_, items) => items.iter().map(written).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        _ => None,
    }
}

/// The secret that a file holds; the line break that editors add is not part of it.
fn secret_in(path: &Path) -> Result<String, String> {
    let bytes = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if bytes > SECRET_FILE_BYTES_MAX {
        return Err(format!("is longer than {SECRET_FILE_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let line = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(line.to_owned())
    }
}

#[cfg(test)]
mod tests;
