//! What tests fetch: kept in the cache folder, so that a new build folder need not fetch it again.

use std::path::{Path, PathBuf};

/// Names the cache folder, as for the local stack.
const CACHE_VARIABLE: &str = "PENSTOCK_CACHE_DIR";

/// The folder of this name, which `fetch` fills when it is missing: whole, or not at all.
///
/// # Errors
/// Those of `fetch`.
pub(crate) async fn folder<E>(
    name: &str,
    fetch: impl AsyncFnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let folder = cache().join("tests").join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let unfinished = folder.with_added_extension(format!("unfinished-{}", std::process::id()));
    std::fs::create_dir_all(&unfinished).expect("the cache folder can be written");
    if let Err(error) = fetch(&unfinished).await {
        std::fs::remove_dir_all(&unfinished).expect("an unfinished folder can be removed");
        return Err(error);
    }
    // Another test process may have been quicker.
    if std::fs::rename(&unfinished, &folder).is_err() {
        std::fs::remove_dir_all(&unfinished).expect("an unfinished folder can be removed");
    }
    Ok(folder)
}

fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set(CACHE_VARIABLE).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(set("XDG_CACHE_HOME")?).join("penstock")));
    let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/penstock")));
    // Tests run programs in other folders.
    let cache = cache.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    std::path::absolute(&cache).expect("it is a path")
}
