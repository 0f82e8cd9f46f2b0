//! `cargo xtask schema`: the JSON Schemas of what killtrace writes, generated from its types.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::shell::root;

/// Writes the schemas, or with `check` compares them.
///
/// # Errors
/// When a file cannot be written, or is not up to date.
pub(crate) fn run(check: bool) -> Result<()> {
    for (file, schema) in killtrace::report::json::schemas().context("cannot generate the schemas")? {
        let path = root().join("docs/schema").join(file);
        let written = fs::read_to_string(&path).unwrap_or_default();
        if written == schema {
            println!("docs/schema/{file} is up to date");
            continue;
        }
        if check {
            bail!(
                "docs/schema/{file} is not what the types say\n  help: run `cargo xtask schema` and commit the file"
            );
        }
        fs::write(&path, schema).with_context(|| format!("cannot write docs/schema/{file}"))?;
        println!("wrote docs/schema/{file}");
    }
    Ok(())
}
