//! Placeholder: written on another branch.

use super::args::DemoArgs;
use super::failure::Failure;

/// Placeholder.
///
/// # Errors
/// Always.
pub fn run(_args: &DemoArgs) -> Result<u8, Failure> {
    Err(Failure::new(anyhow::anyhow!("this command is not in this build yet")))
}
