//! What tests fetch: kept in the cache folder, so that a new build folder need not fetch it again.

use std::path::{Path, PathBuf};

/// The folder of this name, which `fetch` fills when it is missing: whole, or not at all.
///
/// # Errors
/// Those of `fetch`.
pub(crate) async fn folder<E>(
    name: &str,
    fetch: impl AsyncFnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    // Tests run programs in other folders, for which its path is absolute.
    let cache = penstock_local::cache_folder().expect("there is a cache folder");
    let folder = cache.join("tests").join(name);
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
