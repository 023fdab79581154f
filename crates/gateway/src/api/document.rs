//! The OpenAPI document of these routes, made from the types that the handlers use.

use utoipa::OpenApi;

/// The document; its paths are relative to where [`crate::Gateway::api_router`] is mounted. The scheme `bearer_auth` is its
/// host's.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

#[derive(OpenApi)]
#[openapi(paths(
    super::status,
    super::channels,
    super::sessions::list,
    super::sessions::get,
    super::send::send,
    super::deliveries::get,
    super::deliveries::retry,
    super::approvals::list,
    super::approvals::decide,
    super::pairings::list,
    super::pairings::approve,
    super::pairings::deny,
    super::outbox::retry,
))]
struct Api;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Every path of the router is documented and the other way round.
    #[test]
    fn the_document_and_the_router_have_the_same_routes() {
        let source = include_str!("../api.rs");
        let (_, router) = source.split_once("pub(crate) fn router").unwrap();
        let (router, _) = router.split_once("\n}\n").unwrap();
        let routed: BTreeSet<_> =
            router.split('"').skip(1).step_by(2).filter(|path| path.starts_with('/')).map(str::to_owned).collect();
        let documented: BTreeSet<_> = super::openapi().paths.paths.into_keys().collect();
        assert_eq!(documented, routed);
    }

    /// What clients are generated from: a change here is a change of the contract.
    #[test]
    fn the_openapi_document_has_not_drifted() {
        let mut document = serde_json::to_value(super::openapi()).unwrap();
        document["info"].take();
        insta::assert_snapshot!("openapi", sorted(&document));
    }

    /// The same whatever order the keys of objects are kept in.
    fn sorted(value: &serde_json::Value) -> String {
        fn sort(value: &serde_json::Value) -> serde_json::Value {
            match value {
                serde_json::Value::Object(map) => {
                    let keys: BTreeSet<_> = map.keys().collect();
                    keys.into_iter().map(|key| (key.clone(), sort(&map[key]))).collect()
                }
                serde_json::Value::Array(items) => items.iter().map(sort).collect(),
                other => other.clone(),
            }
        }
        serde_json::to_string_pretty(&sort(value)).unwrap()
    }
}
