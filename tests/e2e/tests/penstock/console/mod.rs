//! The console and the portal: their sessions over HTTP, and their pages in a real browser.

mod browser;
mod commands;
mod dead;
mod figures;
mod flows;
mod forms;
mod pages;
mod pictures;
pub(crate) mod portal;
mod sessions;
mod skipped;
mod stats;
mod tail;
