//! A server that tsx runs, and tests that npm runs.

use std::path::{Path, PathBuf};

use crate::needs::skip;

/// Where its package.json is, or `None`, said with [`skip`], when its packages are not installed.
#[must_use]
pub fn tsx_app() -> Option<PathBuf> {
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("tsx-app");
    if !app.join("node_modules/.bin/tsx").exists() {
        skip("tsx is not installed; `cargo xtask setup` does it");
        return None;
    }
    Some(app)
}
