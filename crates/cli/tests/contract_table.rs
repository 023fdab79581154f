//! `docs/contract-tests.md` names tests that exist, for every number of the contract.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Pitfalls of the HTTP contract.
const NEWEST: usize = 56;

/// The names in backticks of the last column, by number.
fn table(text: &str) -> BTreeMap<usize, Vec<String>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| P")?.split_once(" | "));
    let tests = |rest: &str| -> Vec<String> {
        let (_, tests) = rest.split_once(" | ").unwrap();
        tests.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    rows.map(|(number, rest)| (number.parse().unwrap(), tests(rest))).collect()
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
    let table = table(&fs::read_to_string(root.join("docs/contract-tests.md")).unwrap());
    let mut tests = BTreeSet::new();
    tests_below(&root.join("crates"), &mut tests);
    assert!(tests.len() > 300, "{} tests found", tests.len());
    for number in 1..=NEWEST {
        let named = table.get(&number).unwrap_or_else(|| panic!("P{number} has no line"));
        assert!(!named.is_empty(), "P{number} has no test");
        for test in named {
            assert!(tests.contains(test), "P{number} names `{test}`, which is no test");
        }
    }
    assert_eq!(table.len(), NEWEST, "a line for a number that does not exist");
}
