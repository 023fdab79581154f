//! Arithmetic: bash evaluates the *values* of variables in it, subscripts with substitutions included. So anything but
//! numbers is a doubt.

use crate::{Doubt, reader::Reader};

impl Reader {
    /// Reads an arithmetic expression for the commands in it.
    pub(crate) fn arithmetic(&mut self, expression: &str) {
        let plain =
            |char: char| char.is_ascii_digit() || char.is_ascii_whitespace() || "+-*/%()<>=!&|^~?:,".contains(char);
        if expression.chars().all(plain) {
            return;
        }
        self.doubt(Doubt::Construct("arithmetic on variables"));
        match self.parse_body(expression) {
            Ok(pieces) => {
                self.pieces(expression, &pieces, true);
            }
            Err(doubt) => self.doubt(doubt),
        }
    }
}
