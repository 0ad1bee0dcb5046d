//! The documents say what is there: every setting of both services in the words of `--help`, every operation in those of the
//! contract, and links that lead somewhere.

#![cfg(feature = "services")]

mod tables;

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The first page: longer, and nobody reads it.
const LINES_OF_THE_FIRST_PAGE: usize = 200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(document: &Path) -> String {
    fs::read_to_string(root().join(document))
        .unwrap_or_else(|error| panic!("{}: {error}", document.display()))
}

#[test]
fn every_link_between_documents_leads_somewhere_in_the_project() {
    let documents = documents();
    let read: HashMap<_, _> = documents
        .iter()
        .map(|path| (path.clone(), Page::of(&read(path))))
        .collect();
    let broken: Vec<_> = documents
        .iter()
        .flat_map(|path| read[path].links.iter().map(move |link| (path, link)))
        .filter_map(|(path, link)| {
            Some(format!(
                "{}: {link}: {}",
                path.display(),
                fault(path, link, &read)?
            ))
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_stranger_reads_one_page_and_finds_every_other_from_there() {
    let first = Path::new("README.md");
    let text = read(first);
    assert!(text.lines().count() <= LINES_OF_THE_FIRST_PAGE);
    let links = Page::of(&text).links;
    for document in documents() {
        let path = document.to_str().expect("names are text");
        assert!(
            document == first || links.iter().any(|link| link == path),
            "README.md has no link to {path}"
        );
    }
}

/// Why a link is wrong, if it is. Those that lead out of the project are not followed.
fn fault(from: &Path, link: &str, pages: &HashMap<PathBuf, Page>) -> Option<&'static str> {
    if ["https://", "http://", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme))
    {
        return None;
    }
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() {
        from.to_owned()
    } else {
        let folder = from.parent().expect("a file has a folder");
        let Some(target) = resolved(&folder.join(path)) else {
            return Some("it leads out of the project");
        };
        target
    };
    if !root().join(&target).exists() {
        return Some("there is no such file");
    }
    let anchor = anchor?;
    match pages.get(&target) {
        None => Some("an anchor in what is no document"),
        Some(page) => {
            (!page.anchors.iter().any(|known| known == anchor)).then_some("no heading has this anchor")
        }
    }
}

/// The path without `.` and `..`; `None` when it leaves the folder in which it starts.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut target = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => target.push(name),
            Component::ParentDir if target.pop() => {}
            _ => return None,
        }
    }
    Some(target)
}

/// Every Markdown file of the project, as a path from its root. Hidden files are no part of it, and neither is what cargo
/// builds.
fn documents() -> Vec<PathBuf> {
    let root = root();
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let entry = entry.expect("a folder can be listed");
            let path = entry.path();
            let within = path.strip_prefix(&root).expect("it is below the root");
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if is_hidden || within == Path::new("target") {
                continue;
            }
            if entry.file_type().expect("a file has a type").is_dir() {
                folders.push(path);
            } else if within.extension().is_some_and(|extension| extension == "md") {
                found.push(within.to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 1, "the documents are found");
    found
}

/// What links need of a document.
#[derive(Debug, PartialEq)]
struct Page {
    links: Vec<String>,
    anchors: Vec<String>,
}

impl Page {
    fn of(text: &str) -> Self {
        let (mut links, mut anchors, mut heading) = (Vec::new(), Vec::new(), None::<String>);
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let heading = heading.take().expect("a heading that ends has begun");
                    anchors.push(anchor(&heading, &anchors));
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        Self { links, anchors }
    }
}

/// The anchor that GitHub gives a heading: of those that would be the same, the second one ends in `-1`.
fn anchor(heading: &str, taken: &[String]) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .collect::<String>()
        .replace(' ', "-");
    let mut numbered = (1..).map(|number| format!("{kept}-{number}"));
    if taken.contains(&kept) {
        numbered
            .find(|name| !taken.contains(name))
            .expect("there are more numbers")
    } else {
        kept
    }
}

#[test]
fn links_are_told_from_code_and_anchors_are_those_of_github() {
    let page = Page::of(
        "# Try it\n[a](b.md#c) `[no](link)`\n\n    [no](link)\n\n## `Retry-After`, 2× the_same!\n\n| t |\n|---|\n| [d](#try-it) |\n\n# Try it\n",
    );
    assert_eq!(
        page,
        Page {
            links: vec!["b.md#c".to_owned(), "#try-it".to_owned()],
            anchors: ["try-it", "retry-after-2-the_same", "try-it-1"]
                .map(str::to_owned)
                .into(),
        }
    );
    let pages = HashMap::from([(PathBuf::from("deploy/README.md"), page)]);
    let fault = |link| fault(Path::new("deploy/README.md"), link, &pages);
    assert_eq!(fault("https://example.com/#x"), None);
    assert_eq!(fault("#try-it-1"), None);
    assert_eq!(fault("../deploy/README.md#try-it"), None);
    assert_eq!(fault("nats.conf"), None);
    assert_eq!(fault("#try"), Some("no heading has this anchor"));
    assert_eq!(fault("deploy/nats.conf"), Some("there is no such file"));
    assert_eq!(fault("nats.conf#x"), Some("an anchor in what is no document"));
    assert_eq!(fault("../../nats.conf"), Some("it leads out of the project"));
}
