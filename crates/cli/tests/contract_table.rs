//! `docs/contract-tests.md` names tests that exist, for every number of the contract.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The pitfalls of each contract: what their numbers begin with, and how many there are.
const CONTRACTS: [(&str, usize); 4] = [("P", 56), ("G-P", 53), ("A-P", 47), ("C-P", 67)];

/// The names in backticks of the last column, by number.
fn table(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows = rows.filter(|(number, _)| number.ends_with(|end: char| end.is_ascii_digit()));
    rows.map(|(number, rest)| {
        let (_, tests) = rest.split_once(" | ").unwrap();
        (number, tests.split('`').skip(1).step_by(2).collect())
    })
    .collect()
}

/// The numbers of which the end of the document says that no test holds them, if there are any.
fn without_a_test(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("* No test yet: "));
    lines.flat_map(|line| line.trim_end_matches('.').split(", ")).collect()
}

/// The names of all test functions below a directory.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_in(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The function behind each test attribute.
fn tests_in(source: &str) -> impl Iterator<Item = String> {
    let behind = source.split("#[test]").skip(1).chain(source.split("#[tokio::test").skip(1));
    behind.filter_map(|text| text.split_once("fn ")?.1.split_once('(').map(|(name, _)| name.to_owned()))
}

#[test]
fn every_number_has_tests_and_every_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join("docs/contract-tests.md")).unwrap();
    let (table, untested) = (table(&text), without_a_test(&text));
    let mut tests = BTreeSet::new();
    tests_below(&root.join("crates"), &mut tests);
    assert!(tests.len() > 300, "{} tests found", tests.len());
    let numbers =
        CONTRACTS.iter().flat_map(|(begin, count)| (1..=*count).map(move |number| format!("{begin}{number}")));
    for number in numbers.clone() {
        let named = table.get(&*number).unwrap_or_else(|| panic!("{number} has no line"));
        assert_eq!(named.is_empty(), untested.contains(&*number), "{number}: tests in its line, or a word at the end");
        for test in named {
            assert!(tests.contains(*test), "{number} names `{test}`, which is no test");
        }
    }
    assert_eq!(table.len(), numbers.count(), "a line for a number that does not exist");
}
