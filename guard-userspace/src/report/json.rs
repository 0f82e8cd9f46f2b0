//! The report as JSON, `killtrace.report/1`, and its schema.

use std::io::{self, Write};

use schemars::generate::SchemaSettings;

use super::{Options, Report, escape};
use crate::model;

/// Where the schema of the current format is published.
pub const SCHEMA_ID: &str = "https://github.com/killtrace/killtrace/raw/main/docs/schema/report-1.json";

/// Pretty JSON with a line break at the end.
#[derive(Debug)]
pub struct Json;

impl Report for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn about(&self) -> &'static str {
        "everything, for programs; the schema is docs/schema/report-1.json"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn write(&self, report: &model::Report, _: &Options, out: &mut dyn Write) -> io::Result<()> {
        let json = serde_json::to_string_pretty(report).map_err(io::Error::other)?;
        out.write_all(escape::json(json).as_bytes())?;
        out.write_all(b"\n")
    }
}

/// The JSON Schema of a report, pretty, with a line break at the end.
///
/// It describes what killtrace writes: every key is required, and unknown is `null`.
///
/// # Errors
/// Never in practice: a schema is plain JSON.
pub fn schema() -> serde_json::Result<String> {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<model::Report>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), model::Report::SCHEMA.into());
    if let Some(version) =
        schema.pointer_mut("/properties/schema").and_then(|version| version.as_object_mut())
    {
        version.insert("const".to_owned(), model::Report::SCHEMA.into());
    }
    let mut text = serde_json::to_string_pretty(&schema)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::report::sample;

    fn render(report: &model::Report) -> String {
        let mut out = Vec::new();
        Json.write(report, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn validator() -> jsonschema::Validator {
        let schema = serde_json::from_str(&schema().unwrap()).unwrap();
        jsonschema::draft202012::meta::validate(&schema).unwrap();
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    /// The first fault of a report, `None` when it is valid.
    fn fault(validator: &jsonschema::Validator, report: &Value) -> Option<String> {
        validator.iter_errors(report).next().map(|error| format!("{}: {error}", error.instance_path()))
    }

    #[test]
    fn the_checked_in_schema_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/report-1.json");
        let checked_in = std::fs::read_to_string(&path).unwrap();
        assert!(
            checked_in == schema().unwrap(),
            "the report's types and docs/schema/report-1.json differ; \
             write it with `cargo xtask schema`, and read what changed"
        );
    }

    #[test]
    fn the_sample_is_written_as_it_ever_was() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/sample.json");
        let current = render(&sample::report());
        if std::env::var_os("UPDATE_SAMPLE").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap() == current,
            "tests/report/sample.json differs; write it with UPDATE_SAMPLE=1, and read what changed"
        );
    }

    #[test]
    fn every_variant_follows_the_schema_and_reads_back() {
        let validator = validator();
        for report in [sample::report(), sample::nothing_died(), sample::every_variant()] {
            let json = render(&report);
            let value: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(fault(&validator, &value), None);
            assert_eq!(serde_json::from_str::<model::Report>(&json).unwrap(), report);
        }
    }

    /// Calls `visit` with the path of every key of every object.
    fn keys(value: &Value, path: &str, visit: &mut impl FnMut(String)) {
        match value {
            Value::Object(map) => {
                for (key, item) in map {
                    let path = format!("{path}/{key}");
                    keys(item, &path, visit);
                    visit(path);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    keys(item, &format!("{path}/{index}"), visit);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn no_key_may_be_missing() {
        let validator = validator();
        let whole: Value = serde_json::from_str(&render(&sample::report())).unwrap();
        let mut paths = Vec::new();
        keys(&whole, "", &mut |path| paths.push(path));
        assert!(paths.len() > 300, "{}", paths.len());
        for path in paths {
            let mut report = whole.clone();
            let (parent, key) = path.rsplit_once('/').unwrap();
            report.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            assert!(fault(&validator, &report).is_some(), "{path} may be missing");
        }
    }

    #[test]
    fn another_version_does_not_follow_this_schema() {
        let mut report: Value = serde_json::from_str(&render(&sample::report())).unwrap();
        report["schema"] = "killtrace.report/2".into();
        assert!(fault(&validator(), &report).is_some());
    }

    #[test]
    fn more_keys_are_compatible() {
        let mut report: Value = serde_json::from_str(&render(&sample::report())).unwrap();
        report["deaths"][0]["cause"]["moon_phase"] = "full".into();
        report["timeline"][0]["moon_phase"] = "full".into();
        assert_eq!(fault(&validator(), &report), None);
        assert!(serde_json::from_value::<model::Report>(report).is_ok());
    }

    #[test]
    fn hostile_names_cannot_reach_a_terminal_through_json() {
        let mut report = sample::report();
        report.deaths[0].victim.name = "vi\x1b[2J\u{9b}31m\u{202e}te\x7f".to_owned();
        let json = render(&report);
        assert!(json.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'));
        assert_eq!(serde_json::from_str::<model::Report>(&json).unwrap(), report);
    }
}
