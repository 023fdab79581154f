//! `[server].approval_ceiling`: `"all"`, `"none"`, or a list of tool names.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};
use stakpak_server::ApprovalCeiling;

/// As a visitor, so that the error is placed at the value.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ApprovalCeiling, D::Error> {
    struct Ceiling;

    impl<'de> Visitor<'de> for Ceiling {
        type Value = ApprovalCeiling;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"all\", \"none\" or a list of tool names")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<ApprovalCeiling, E> {
            match text {
                "all" => Ok(ApprovalCeiling::All),
                "none" => Ok(ApprovalCeiling::None),
                other => Err(E::invalid_value(Unexpected::Str(other), &self)),
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ApprovalCeiling, A::Error> {
            let tools = Vec::<String>::deserialize(serde::de::value::SeqAccessDeserializer::new(list))?;
            Ok(ApprovalCeiling::tools(tools.iter().map(String::as_str)))
        }
    }

    deserializer.deserialize_any(Ceiling)
}

#[cfg(test)]
mod tests {
    use stakpak_config::Document;
    use stakpak_server::ApprovalCeiling;

    use crate::autopilot_file::AutopilotFile;

    fn read(text: &str) -> Result<ApprovalCeiling, String> {
        let document = Document::parse("autopilot.toml", text).unwrap();
        AutopilotFile::read(&document).map(|file| file.server.approval_ceiling).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read(""), Ok(ApprovalCeiling::All));
        assert_eq!(read("[server]\napproval_ceiling = \"all\""), Ok(ApprovalCeiling::All));
        assert_eq!(read("[server]\napproval_ceiling = \"none\""), Ok(ApprovalCeiling::None));
        let tools = ApprovalCeiling::tools(["stakpak__view"]);
        assert_eq!(read("[server]\napproval_ceiling = [\"view\"]"), Ok(tools));
    }

    #[test]
    fn a_bad_value_names_the_key_and_what_is_expected() {
        for value in ["\"some\"", "3"] {
            let error = read(&format!("[server]\napproval_ceiling = {value}")).unwrap_err();
            assert!(error.contains("server.approval_ceiling") && error.contains("\"none\""), "{error}");
        }
    }
}
