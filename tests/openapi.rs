//! The committed OpenAPI document is the one that the code makes. `WEIR_UPDATE=1 cargo test --test openapi` writes it anew.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let made = weir::api::openapi::text();
    if std::env::var_os("WEIR_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(&path, made).expect("the document is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "openapi/openapi.json is not current: run WEIR_UPDATE=1 cargo test --test openapi"
    );
}

#[test]
fn every_route_is_documented_and_every_path_exists() {
    let document: serde_json::Value = serde_json::from_str(weir::api::openapi::text()).expect("JSON");
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let pages = ["/", "/docs", "/docs/{page:.*}"];
    let routes: BTreeSet<String> = weir::api::routes::routes()
        .iter()
        .filter(|route| !pages.contains(&route.path))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(documented, routes);
    assert_eq!(document["servers"][0]["url"], "/", "the page works on whatever port it is served");
    let problem = document["components"]["schemas"]["ProblemBody"]["description"].as_str();
    assert!(
        problem.is_some_and(|text| text.contains("reservation_unknown")),
        "the codes are told: {problem:?}"
    );
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let place = format!("{method} {path}");
            assert!(
                operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
                "{place} has no summary"
            );
            assert!(
                operation["tags"][0].as_str().is_some_and(|tag| tags.contains(tag)),
                "{place} has no declared tag"
            );
            let refused = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert!(refused.is_object(), "{place} does not say how it refuses");
        }
    }
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
}
