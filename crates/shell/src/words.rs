//! Words: what quoting leaves of them, and the commands inside their expansions.

use brush_parser::{
    ast,
    word::{self, Parameter, ParameterExpr, ParameterTransformOp, WordPiece, WordPieceWithSource},
};

use crate::{Doubt, Origin, Word, ansi_c, reader::Reader, variables, work};

/// What an unquoted text of a real word cannot hold: the parser took its end for somewhere else.
const NOT_IN_WORDS: [char; 9] = [' ', '\t', '\n', ';', '|', '&', '(', ')', '<'];

impl Reader {
    /// Reads a word as bash expands it.
    pub(crate) fn word(&mut self, word: &ast::Word) -> Word {
        self.text_word(&word.value)
    }

    pub(crate) fn text_word(&mut self, text: &str) -> Word {
        if self.is_too_deep() {
            return opaque(text);
        }
        match self.parse_word(text) {
            Ok(pieces) => {
                self.depth += 1;
                let word = self.pieces(text, &pieces, false);
                self.depth -= 1;
                self.look_at_braces(&pieces);
                word
            }
            Err(doubt) => {
                self.doubt(doubt);
                opaque(text)
            }
        }
    }

    fn parse_word(&mut self, text: &str) -> Result<Vec<WordPieceWithSource>, Doubt> {
        self.spend(work::of_word(text))?;
        word::parse(text, &self.options).map_err(|_| Doubt::Syntax)
    }

    /// A text in which quotes mean nothing.
    pub(crate) fn parse_body(&mut self, text: &str) -> Result<Vec<WordPieceWithSource>, Doubt> {
        self.spend(work::of_body(text))?;
        word::parse_heredoc(text, &self.options).map_err(|_| Doubt::Syntax)
    }

    /// A here-document whose body is expanded, or another text in which quotes mean nothing.
    pub(crate) fn unquoted_body(&mut self, text: &str) -> Word {
        match self.parse_body(text) {
            Ok(pieces) => self.pieces(text, &pieces, true),
            Err(doubt) => {
                self.doubt(doubt);
                opaque(text)
            }
        }
    }

    /// `{a,b}` makes words, and `{name}>` names a descriptor: neither is followed.
    fn look_at_braces(&mut self, pieces: &[WordPieceWithSource]) {
        let unquoted = pieces.iter().filter_map(|piece| match &piece.piece {
            WordPiece::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let text: String = unquoted.collect();
        let Some((_, inner)) = text.split_once('{') else { return };
        let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
        let is_name = inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !inner.is_empty();
        if inner.contains(',') || inner.contains("..") || is_name {
            self.doubt(Doubt::Construct("a brace expansion"));
        }
    }

    /// The parser takes an expansion whose end it does not find for text. Bash does not: commands in it would be missed.
    fn look_for_expansions(&mut self, pieces: &[WordPieceWithSource]) {
        let runs = pieces.chunk_by(|one, next| is_text(one) && is_text(next));
        for run in runs {
            let text: String = run
                .iter()
                .map(|piece| if let WordPiece::Text(text) = &piece.piece { text.as_str() } else { "" })
                .collect();
            if ["$(", "${", "$[", "`"].iter().any(|opening| text.contains(opening)) {
                self.doubt(Doubt::Syntax);
            }
        }
    }

    pub(crate) fn pieces(&mut self, source: &str, pieces: &[WordPieceWithSource], quoted: bool) -> Word {
        self.look_for_expansions(pieces);
        let mut word = Word::of("");
        for WordPieceWithSource { piece, start_index, end_index } in pieces {
            let source = source.get(*start_index..*end_index).unwrap_or_default();
            self.piece(&mut word, piece, source, quoted);
        }
        word
    }

    fn piece(&mut self, word: &mut Word, piece: &WordPiece, raw: &str, quoted: bool) {
        match piece {
            WordPiece::Text(text) if quoted => word.text.push_str(&text.replace("\\\n", "")),
            WordPiece::Text(text) => {
                if text.contains(NOT_IN_WORDS) || text.contains('>') {
                    self.doubt(Doubt::Syntax);
                }
                if text.contains(['*', '?', '[']) {
                    word.is_dynamic = true;
                    word.may_split = true;
                }
                word.text.push_str(text);
            }
            WordPiece::SingleQuotedText(text) => word.text.push_str(text),
            WordPiece::AnsiCQuotedText(text) => match ansi_c::decode(text) {
                Some(text) => word.text.push_str(&text),
                None => self.expands(word, raw, true),
            },
            WordPiece::EscapeSequence(escape) => {
                word.text.push_str(escape.strip_prefix('\\').filter(|char| *char != "\n").unwrap_or_default());
            }
            WordPiece::DoubleQuotedSequence(pieces) | WordPiece::GettextDoubleQuotedSequence(pieces) => {
                if matches!(piece, WordPiece::GettextDoubleQuotedSequence(_)) {
                    self.doubt(Doubt::Construct("a translated text"));
                }
                self.quoted_pieces(word, pieces, raw);
            }
            WordPiece::TildeExpansion(_) => self.expands(word, raw, true),
            WordPiece::ParameterExpansion(expression) => {
                self.parameter(expression);
                self.expands(word, raw, quoted && !splits_in_quotes(expression));
            }
            WordPiece::CommandSubstitution(text) => {
                self.substitution(text);
                self.expands(word, raw, quoted);
            }
            WordPiece::BackquotedCommandSubstitution(_) => {
                self.backquoted(raw, quoted);
                self.expands(word, raw, quoted);
            }
            WordPiece::ArithmeticExpression(expression) => {
                self.arithmetic(&expression.value);
                self.expands(word, raw, quoted);
            }
        }
    }

    /// Places are those of the whole word, so the raw text of an inner piece is found again by its own length.
    fn quoted_pieces(&mut self, word: &mut Word, pieces: &[WordPieceWithSource], raw: &str) {
        self.look_for_expansions(pieces);
        let Some(first) = pieces.first().map(|piece| piece.start_index) else { return };
        let body = raw.strip_prefix('$').unwrap_or(raw).get(1..).unwrap_or_default();
        for WordPieceWithSource { piece, start_index, end_index } in pieces {
            let raw = body.get(start_index - first..end_index - first).unwrap_or_default();
            self.piece(word, piece, raw, true);
        }
    }

    #[expect(clippy::unused_self, reason = "reads like its siblings")]
    fn expands(&self, word: &mut Word, raw: &str, quoted: bool) {
        word.is_dynamic = true;
        word.may_split |= !quoted;
        word.text.push_str(raw);
    }

    /// `$(…)`: where it ends was found by the parser of words, which knows neither comments nor patterns of `case`.
    fn substitution(&mut self, text: &str) {
        let text = text.strip_prefix('<').map_or(text, |file| {
            // `$(< file)` reads the file.
            self.doubt(Doubt::Construct("a file read in place"));
            file
        });
        if text.contains('#') || text.contains("<<") || text.contains("case") {
            self.doubt(Doubt::Construct("a substitution whose end is not certain"));
        }
        self.script(text, Origin::Line);
    }

    fn backquoted(&mut self, raw: &str, quoted: bool) {
        let body = raw.strip_prefix('`').and_then(|raw| raw.strip_suffix('`')).unwrap_or(raw);
        if !body.contains('\\') {
            return self.script(body, Origin::Line);
        }
        self.doubt(Doubt::Construct("a backquoted text with escapes"));
        let mut text = String::new();
        let mut rest = body.chars().peekable();
        while let Some(char) = rest.next() {
            let unescapes = |next: char| matches!(next, '$' | '`' | '\\') || (quoted && next == '"');
            match rest.peek() {
                Some(next) if char == '\\' && unescapes(*next) => {}
                _ => text.push(char),
            }
            if char == '\\' {
                text.extend(rest.next());
            }
        }
        self.script(&text, Origin::Line);
    }

    fn parameter(&mut self, expression: &ParameterExpr) {
        use ParameterExpr as E;
        match expression {
            E::Parameter { parameter, indirect } | E::ParameterLength { parameter, indirect } => {
                self.parameter_name(parameter, *indirect);
            }
            E::UseDefaultValues { parameter, indirect, default_value: text, .. }
            | E::IndicateErrorIfNullOrUnset { parameter, indirect, error_message: text, .. }
            | E::UseAlternativeValue { parameter, indirect, alternative_value: text, .. }
            | E::RemoveSmallestSuffixPattern { parameter, indirect, pattern: text }
            | E::RemoveLargestSuffixPattern { parameter, indirect, pattern: text }
            | E::RemoveSmallestPrefixPattern { parameter, indirect, pattern: text }
            | E::RemoveLargestPrefixPattern { parameter, indirect, pattern: text }
            | E::UppercaseFirstChar { parameter, indirect, pattern: text }
            | E::UppercasePattern { parameter, indirect, pattern: text }
            | E::LowercaseFirstChar { parameter, indirect, pattern: text }
            | E::LowercasePattern { parameter, indirect, pattern: text } => {
                self.parameter_name(parameter, *indirect);
                self.inner_text(text.as_deref());
            }
            E::AssignDefaultValues { parameter, indirect, default_value, .. } => {
                self.parameter_name(parameter, *indirect);
                if let Parameter::Named(name) | Parameter::NamedWithIndex { name, .. } = parameter {
                    self.assigns(name);
                }
                self.inner_text(default_value.as_deref());
            }
            E::ReplaceSubstring { parameter, indirect, pattern, replacement, .. } => {
                self.parameter_name(parameter, *indirect);
                self.inner_text(Some(pattern));
                self.inner_text(replacement.as_deref());
            }
            E::Substring { parameter, indirect, offset, length } => {
                self.parameter_name(parameter, *indirect);
                self.arithmetic(&offset.value);
                if let Some(length) = length {
                    self.arithmetic(&length.value);
                }
            }
            E::Transform { parameter, indirect, op } => {
                self.parameter_name(parameter, *indirect);
                if matches!(op, ParameterTransformOp::PromptExpand) {
                    self.doubt(Doubt::Construct("a value that is expanded again"));
                }
            }
            E::VariableNames { .. } | E::MemberKeys { .. } => {}
        }
    }

    fn parameter_name(&mut self, parameter: &Parameter, indirect: bool) {
        if indirect {
            self.doubt(Doubt::Construct("a value that is expanded again"));
        }
        if let Parameter::NamedWithIndex { index, .. } = parameter {
            self.arithmetic(index);
        }
    }

    /// The text after `:-` and its like: quotes mean something in it, and blanks are part of it.
    fn inner_text(&mut self, text: Option<&str>) {
        let Some(text) = text.filter(|text| text.contains(['$', '`', '\'', '"', '\\'])) else { return };
        match self.parse_word(text) {
            Ok(pieces) => {
                self.pieces(text, &pieces, true);
            }
            Err(doubt) => self.doubt(doubt),
        }
        // Where quotes stand inside other quotes, what is quoted depends on both: the text is read either way.
        if text.contains(['\'', '"', '\\']) {
            self.doubt(Doubt::Construct("quotes inside an expansion"));
            self.unquoted_body(text);
        }
    }

    /// A variable that is given a value.
    pub(crate) fn assigns(&mut self, name: &str) {
        if variables::is_dangerous(name) {
            self.doubt(Doubt::Sets(name.to_owned()));
        }
    }
}

fn is_text(piece: &WordPieceWithSource) -> bool {
    matches!(piece.piece, WordPiece::Text(_))
}

fn opaque(text: &str) -> Word {
    Word { text: text.to_owned(), is_dynamic: true, may_split: true }
}

/// `"$@"` and its like make several words, or none.
fn splits_in_quotes(expression: &ParameterExpr) -> bool {
    format!("{expression:?}").contains("concatenate: false")
}
