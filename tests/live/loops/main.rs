//! Loops and storms: what goes on for as long as it is watched, and is told while it does.

mod kiosk;
mod runtime_manager;
