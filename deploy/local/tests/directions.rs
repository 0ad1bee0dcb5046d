//! Which file imports which: no crate has a circle, and the ingest API's folders import only what stands below them. And how
//! many stand side by side.
//!
//! Read from the sources' paths, tests left out. What a file imports from the first file of its own folder does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the ingest API, each with all that it may import.
const BELOW: [(&str, &str); 10] = [
    ("domain", ""),
    ("store", "config domain"),
    ("keys", "config domain store"),
    ("limits", "domain"),
    ("event", "domain"),
    ("publish", "config"),
    ("pulling", "store"),
    ("tailing", "domain store"),
    (
        "app",
        "config domain event http keys limits publish pulling store tailing",
    ),
    ("http", "app config domain event keys limits publish store"),
];

/// Those of them that know HTTP.
const WITH_HTTP: [&str; 2] = ["app", "http"];

/// Most modules of a folder: a reader takes in no more at a glance.
const MOST_IN_A_FOLDER: usize = 18;

/// The files of a crate by module path, each with the modules that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of each file of a crate by module path, without comments and tests.
fn sources(name: &str) -> BTreeMap<String, String> {
    let root = workspace().join(name).join("src");
    let (mut sources, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a crate has sources") {
            let path = entry.expect("a folder can be listed").path();
            let module = path.strip_prefix(&root).expect("it stands in there");
            let module = module.with_extension("").display().to_string().replace('/', "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module);
            if path.is_dir() {
                folders.push(path);
            } else if !module.ends_with("tests") && path.extension().is_some_and(|kind| kind == "rs") {
                let text = read(&path);
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                let lines: Vec<_> = code.lines().filter_map(|line| line.split("//").next()).collect();
                sources.insert(module.to_owned(), lines.join("\n"));
            }
        }
    }
    sources
}

/// The paths that a `use` tree, or a path in the code, names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let end = tree.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':'));
    let (path, rest) = tree.split_at(end.unwrap_or(tree.len()));
    let prefix = format!("{prefix}{path}");
    if !rest.starts_with('{') || !(prefix.is_empty() || prefix.ends_with("::")) {
        return paths.push(prefix);
    }
    let (mut depth, mut start) = (0, 1);
    for (at, c) in rest.char_indices() {
        if matches!(c, ',' | '}') && depth == 1 {
            expand(&prefix, rest[start..at].trim(), paths);
            start = at + 1;
        }
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return;
        }
    }
}

/// What a file names of its own crate.
fn paths(module: &str, code: &str) -> Vec<String> {
    let parent = module
        .rsplit_once("::")
        .map_or(String::new(), |(parent, _)| format!("{parent}::"));
    let mut paths = Vec::new();
    for (word, base) in [
        ("crate::", String::new()),
        ("self::", format!("{module}::")),
        ("super::", parent),
    ] {
        for (at, _) in code.match_indices(word) {
            if !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                expand(&base, &code[at + word.len()..], &mut paths);
            }
        }
    }
    paths
}

fn imports(sources: &BTreeMap<String, String>) -> Imports {
    let file_of = |path: String| {
        let names: Vec<_> = path.split("::").collect();
        let mut modules = (1..=names.len()).rev().map(|length| names[..length].join("::"));
        modules.find(|module| sources.contains_key(module))
    };
    let mut imports = Imports::new();
    let modules = sources.iter();
    for (module, code) in modules.filter(|(module, _)| !["lib", "main"].contains(&module.as_str())) {
        let files = paths(module, code).into_iter().filter_map(file_of);
        let others = files.filter(|file| !format!("{module}::").starts_with(&format!("{file}::")));
        imports.insert(module.clone(), others.collect());
    }
    imports
}

/// Whether a way goes on to a file that is on it already; then it ends with that one.
fn is_circle(imports: &Imports, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
    let file = way[way.len() - 1].clone();
    for next in imports.get(&file).into_iter().flatten() {
        let known = way.contains(next);
        way.push(next.clone());
        if known || (!done.contains(next) && is_circle(imports, way, done)) {
            return true;
        }
        way.pop();
    }
    done.insert(file);
    false
}

/// The folders of the workspace's crates.
fn crates() -> Vec<String> {
    let manifest = read(&workspace().join("Cargo.toml"));
    let members = manifest.split_once("members = [").map(|(_, rest)| rest);
    let members = members
        .and_then(|rest| rest.split(']').next())
        .expect("a workspace has members");
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn no_folder_is_crowded() {
    for name in crates() {
        let sources = sources(&name);
        let mut folders: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for module in sources
            .keys()
            .filter(|module| !["lib", "main"].contains(&module.as_str()))
        {
            let names: Vec<_> = module.split("::").collect();
            for depth in 0..names.len() {
                let folder = folders.entry(names[..depth].join("::")).or_default();
                folder.insert(names[depth]);
            }
        }
        for (folder, modules) in folders {
            assert!(modules.len() <= MOST_IN_A_FOLDER, "{name}, {folder}: {modules:?}");
        }
    }
}

#[test]
fn no_crate_imports_in_a_circle() {
    for name in crates() {
        let (imports, mut done) = (imports(&sources(&name)), BTreeSet::new());
        for file in imports.keys() {
            let mut way = vec![file.clone()];
            let circle = is_circle(&imports, &mut way, &mut done);
            assert!(!circle, "{name}: {}", way.join(" imports "));
        }
    }
}

#[test]
fn the_ingest_apis_folders_import_only_what_stands_below_them() {
    let folder = |file: &str| file.split("::").next().unwrap_or_default().to_owned();
    let sources = sources("ingest-api");
    for (file, imported) in imports(&sources) {
        let Some((name, below)) = BELOW.iter().find(|(name, _)| *name == folder(&file)) else {
            continue;
        };
        let knows_http = sources[&file].contains("axum");
        assert!(!knows_http || WITH_HTTP.contains(name), "{file} knows HTTP");
        for other in imported {
            let allowed = below.split(' ').any(|below| below == folder(&other));
            assert!(allowed || folder(&other) == *name, "{file} imports {other}");
        }
    }
}
