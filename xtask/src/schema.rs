//! `cargo xtask schema`: the JSON Schema of the report, generated from its types.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::shell::root;

const PATH: &str = "docs/schema/report-1.json";

/// Writes the schema, or with `check` compares it.
///
/// # Errors
/// When the file cannot be written, or is not up to date.
pub(crate) fn run(check: bool) -> Result<()> {
    let schema = killtrace::report::json::schema().context("cannot generate the schema")?;
    let path = root().join(PATH);
    let written = fs::read_to_string(&path).unwrap_or_default();
    if written == schema {
        println!("{PATH} is up to date");
        return Ok(());
    }
    if check {
        bail!("{PATH} is not what the types say\n  help: run `cargo xtask schema` and commit the file");
    }
    fs::write(&path, schema).with_context(|| format!("cannot write {PATH}"))?;
    println!("wrote {PATH}");
    Ok(())
}
