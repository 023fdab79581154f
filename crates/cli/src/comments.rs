//! Comments of a table that is removed from a file.

use toml_edit::{DocumentMut, Item, Table};

/// The lines above a table go with it, unless there are comments among them: those go before what follows.
pub(crate) fn keep_comments(document: &mut DocumentMut, removed: &Table) {
    let above = removed.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
    if !above.contains('#') {
        return;
    }
    let after = removed.position().unwrap_or(isize::MAX);
    match next_position(document.as_table(), after).and_then(|next| at_position(document.as_table_mut(), next)) {
        Some(next) => {
            let own = next.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
            let both = format!("{above}{own}");
            next.decor_mut().set_prefix(both);
        }
        None => {
            let end = document.trailing().as_str().unwrap_or_default();
            let both = format!("{above}{end}");
            document.set_trailing(both);
        }
    }
}

/// The place of the first table behind `after`.
fn next_position(table: &Table, after: isize) -> Option<isize> {
    let of_item = |item: &Item| match item {
        Item::Table(table) => next_position(table, after),
        Item::ArrayOfTables(tables) => tables.iter().filter_map(|table| next_position(table, after)).min(),
        _ => None,
    };
    let own = table.position().filter(|own| *own > after && !table.is_implicit());
    own.into_iter().chain(table.iter().filter_map(|(_, item)| of_item(item))).min()
}

fn at_position(table: &mut Table, position: isize) -> Option<&mut Table> {
    if table.position() == Some(position) && !table.is_implicit() {
        return Some(table);
    }
    table.iter_mut().find_map(|(_, item)| match item {
        Item::Table(table) => at_position(table, position),
        Item::ArrayOfTables(tables) => tables.iter_mut().find_map(|table| at_position(table, position)),
        _ => None,
    })
}
