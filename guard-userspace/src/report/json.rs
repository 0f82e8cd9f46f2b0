//! The report as JSON, `killtrace.report/1`, and its schema.

use std::io::{self, Write};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::{Options, Report, escape};
use crate::model;
use crate::model::record::{DeathRecord, Gap};

/// Where the schemas of the current formats are published.
pub const SCHEMAS: &str = "https://github.com/killtrace/killtrace/raw/main/docs/schema/";

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

/// The JSON Schema of a report.
///
/// # Errors
/// Like those of [`schemas`].
pub fn schema() -> serde_json::Result<String> {
    schema_of::<model::Report>("report-1.json", model::Report::SCHEMA)
}

/// The JSON Schemas of a report and of what the flight recorder keeps: each with its file's name, pretty, with a line
/// break at the end.
///
/// They describe what killtrace writes: every key is required, and unknown is `null`.
///
/// # Errors
/// Never in practice: a schema is plain JSON.
pub fn schemas() -> serde_json::Result<[(&'static str, String); 3]> {
    Ok([
        ("report-1.json", schema()?),
        ("death-1.json", schema_of::<DeathRecord>("death-1.json", DeathRecord::SCHEMA)?),
        ("gap-1.json", schema_of::<Gap>("gap-1.json", Gap::SCHEMA)?),
    ])
}

fn schema_of<T: JsonSchema>(file: &str, name: &str) -> serde_json::Result<String> {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), format!("{SCHEMAS}{file}").into());
    schema.insert("title".to_owned(), name.into());
    if let Some(version) =
        schema.pointer_mut("/properties/schema").and_then(|version| version.as_object_mut())
    {
        version.insert("const".to_owned(), name.into());
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
    use crate::model::record::Why;
    use crate::report::sample;

    fn render(report: &model::Report) -> String {
        let mut out = Vec::new();
        Json.write(report, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn validator() -> jsonschema::Validator {
        validator_of(&schemas().unwrap()[0].1)
    }

    fn validator_of(schema: &str) -> jsonschema::Validator {
        let schema = serde_json::from_str(schema).unwrap();
        jsonschema::draft202012::meta::validate(&schema).unwrap();
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    /// The first fault of a report, `None` when it is valid.
    fn fault(validator: &jsonschema::Validator, report: &Value) -> Option<String> {
        validator.iter_errors(report).next().map(|error| format!("{}: {error}", error.instance_path()))
    }

    #[test]
    fn the_checked_in_schemas_are_up_to_date() {
        for (file, schema) in schemas().unwrap() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(file);
            assert!(
                std::fs::read_to_string(&path).is_ok_and(|checked_in| checked_in == schema),
                "the types and docs/schema/{file} differ; \
                 write it with `cargo xtask schema`, and read what changed"
            );
        }
    }

    #[test]
    fn every_recorded_death_follows_its_schema() {
        let schemas = schemas().unwrap();
        let death = validator_of(&schemas[1].1);
        let mut count = 0;
        for report in [sample::report(), sample::every_variant()] {
            for record in DeathRecord::of_report(report) {
                assert_eq!(fault(&death, &serde_json::to_value(&record).unwrap()), None);
                count += 1;
            }
        }
        assert!(count > 1);
        let record = DeathRecord::of_report(sample::report()).next().unwrap();
        let gap = Gap {
            schema: Gap::SCHEMA.to_owned(),
            tool: record.tool,
            host: record.host,
            from: None,
            until: record.death.died_at,
            why: Why::NothingBefore,
            count: None,
        };
        assert_eq!(fault(&validator_of(&schemas[2].1), &serde_json::to_value(gap).unwrap()), None);
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
