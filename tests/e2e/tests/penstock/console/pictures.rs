//! The pictures of the console's README are those that the scripts take.

use std::collections::BTreeSet;
use std::path::Path;

static SCRIPTS: [&str; 4] = [
    include_str!("scripts/console.cjs"),
    include_str!("scripts/forms.cjs"),
    include_str!("scripts/figures.cjs"),
    include_str!("scripts/portal.cjs"),
];

/// What stands between `before` and `after`, each time.
fn between<'a>(text: &'a str, before: &str, after: char) -> Vec<&'a str> {
    let rests = text.split(before).skip(1);
    rests.filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}

#[test]
fn the_readme_shows_every_page_in_both_schemes_and_on_a_phone() {
    let names: Vec<_> = SCRIPTS
        .iter()
        .flat_map(|script| between(script, "look(\"", '"'))
        .collect();
    let taken: BTreeSet<_> = names
        .iter()
        .flat_map(|name| ["light", "dark", "phone"].map(|kind| format!("{name}-{kind}").replace(' ', "-")))
        .collect();
    assert_eq!(taken.len(), 3 * names.len(), "two pages have the same name");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ingest-api/console/README.md");
    let readme = std::fs::read_to_string(readme).expect("it is there");
    let shown = between(&readme, "(screenshots/", ')');
    let shown: BTreeSet<_> = shown
        .into_iter()
        .map(|file| file.trim_end_matches(".webp").to_owned())
        .collect();
    assert_eq!(shown, taken);
}
