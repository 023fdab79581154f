//! The OpenAPI document: what clients are generated from.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use crate::support::TestServer;

/// Methods in capitals, by path.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = serde_json::to_value(stakpak_server::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
            (path.clone(), methods.collect())
        })
        .collect()
}

/// Paths that the router's source names.
fn routed() -> BTreeSet<String> {
    let source = include_str!("../../src/routes.rs");
    let (_, router) = source.split_once("pub fn router").unwrap();
    let (router, _) = router.split_once("\n}\n").unwrap();
    let strings = router.split('"').skip(1).step_by(2);
    strings
        .map(|path| path.replace("{session}", "/v1/sessions/{session_id}").replace("{{", "{").replace("}}", "}"))
        .filter(|path| path.starts_with('/'))
        .collect()
}

/// P39: every path of the router is documented, and every documented path takes exactly the documented methods.
#[tokio::test]
async fn the_document_and_the_router_have_the_same_routes() {
    let documented = documented();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), routed());
    let server = TestServer::start([]).await;
    let http = server.http();
    for (path, mut methods) in documented {
        let concrete = path.replace("{session_id}", "x").replace("{run_id}", "x").replace("{tool_call_id}", "x");
        let response = http.request(Method::TRACE, &concrete).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let allow = response.headers()["allow"].to_str().unwrap().split(',');
        let allowed: BTreeSet<_> = allow.map(|method| method.trim().to_owned()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, methods, "{path}");
    }
}

/// P39: generators name functions by them.
#[test]
fn operation_ids_are_unique() {
    let document = serde_json::to_value(stakpak_server::openapi()).unwrap();
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = operations.map(|operation| operation["operationId"].as_str().unwrap_or_default()).collect();
    assert!(ids.len() > 15 && !ids.contains(&""), "{ids:?}");
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
}

/// P39: no answer that the document does not know: each operation has what the edge and the token check can answer.
#[test]
fn answers_of_every_route_are_documented() {
    let document = serde_json::to_value(stakpak_server::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("403"), "{method} {path}");
            assert_eq!(responses.contains_key("401"), operation["security"] != Value::Null, "{method} {path}");
            let takes_body = operation["requestBody"] != Value::Null;
            for status in ["408", "413", "415", "422"] {
                assert_eq!(responses.contains_key(status), takes_body, "{method} {path} {status}");
            }
        }
    }
}
