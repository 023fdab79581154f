//! `$NAME` and `${NAME}` in `env` and `headers`, `${NAME:-default}` as in every other file.
//!
//! A value is not searched again, and an error names the variable, never a value.

/// A variable that a value names and that is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("variable {0} is not set")]
pub struct UnsetVariable(pub String);

/// The value with its variables put in. A `$` that begins no name stays.
pub(crate) fn expand(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, UnsetVariable> {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (reference, end) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((inner, end)) => (inner, end),
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        let (name, default) =
            reference.split_once(":-").map_or((reference, None), |(name, default)| (name, Some(default)));
        if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
            expanded.push('$');
            rest = after;
            continue;
        }
        match (variable(name).filter(|value| default.is_none() || !value.is_empty()), default) {
            (Some(value), _) => expanded.push_str(&value),
            (None, Some(default)) => expanded.push_str(default),
            (None, None) => return Err(UnsetVariable(name.to_owned())),
        }
        rest = end;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_once_and_what_is_none_stays() {
        let variable = |name: &str| match name {
            "TOKEN" => Some("$HOME".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (value, expanded) in [
            ("Bearer $TOKEN", "Bearer $HOME"),
            ("${TOKEN}x", "$HOMEx"),
            ("$TOKEN-$TOKEN", "$HOME-$HOME"),
            ("a$", "a$"),
            ("$5 $$ ${", "$5 $$ ${"),
            ("${NONE:-d}${EMPTY:-e}$EMPTY", "de"),
        ] {
            assert_eq!(expand(value, &variable), Ok(expanded.to_owned()), "{value}");
        }
        assert_eq!(expand("a ${NONE}", &variable), Err(UnsetVariable("NONE".into())));
        assert_eq!(expand("$NONE", &variable), Err(UnsetVariable("NONE".into())));
    }
}
