//! A table as aligned lines, for platforms without tables.

use unicode_width::UnicodeWidthStr;

use super::leaf::{Align, Content, Leaf, Table, plain};

/// Cells wider than this push the rest of their row aside instead of widening the column.
const WIDEST_COLUMN: usize = 40;

/// A table leaf as code; others as they are.
pub(super) fn as_code(leaf: Leaf) -> Leaf {
    match &leaf.content {
        Content::Table(table) => leaf.with(Content::Code { language: None, text: aligned(table) }),
        _ => leaf,
    }
}

/// Columns two spaces apart, a line under the head.
pub(super) fn aligned(table: &Table) -> String {
    let cells: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(|cell| plain(cell).replace('\n', " ")).collect()).collect();
    let width = |column: usize| {
        let widths = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
        widths.filter(|width| *width <= WIDEST_COLUMN).max().unwrap_or(1).max(1)
    };
    let widths: Vec<usize> = (0..table.width()).map(width).collect();
    let mut lines = Vec::with_capacity(cells.len() + 1);
    for (number, row) in cells.iter().enumerate() {
        lines.push(line(row, &widths, &table.columns));
        if number == 0 && cells.len() > 1 {
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            lines.push(rules.join("  "));
        }
    }
    lines.join("\n")
}

fn line(row: &[String], widths: &[usize], columns: &[Align]) -> String {
    let mut line = String::new();
    for (number, (cell, width)) in row.iter().zip(widths).enumerate() {
        let space = width.saturating_sub(cell.width());
        let before = match columns.get(number).unwrap_or(&Align::Left) {
            Align::Left => 0,
            Align::Center => space / 2,
            Align::Right => space,
        };
        line.extend(std::iter::repeat_n(' ', before));
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', space - before + 2));
    }
    line.truncate(line.trim_end().len());
    line
}
