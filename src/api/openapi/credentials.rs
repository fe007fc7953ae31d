//! What a credential is, and for each operation which scopes will do: from the route table, which decides.

use crate::api::auth::Scope;
use crate::api::routes::routes;
use actix_web::http::Method;
use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};

pub struct Credentials;

const JWT: &str = "A JSON Web Token, signed with HS256, RS256, ES256, ES384 or EdDSA, with `iss`, `aud`, `exp` and `sub`, the scopes as words in \
    `scope`, and `workspace_id` where it is bound to one workspace. `weir token` prints one.";
const API_KEY: &str = "A key of `POST /v1/admin/api-keys` (`weir_sk_…`), or for a customer's own usage a token of `POST \
    /v1/admin/portal-tokens` (`weir_pt_…`). Sent like a JSON Web Token: `Authorization: Bearer …`.";

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, format, about) in [("jwt", Some("JWT"), JWT), ("api_key", None, API_KEY)] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.bearer_format = format.map(str::to_owned);
            scheme.description = Some(about.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        for route in routes() {
            let item = document.paths.paths.get_mut(route.path);
            let Some(operation) = item.and_then(|item| operation_of(item, &route.method)) else {
                continue;
            };
            let one = |scheme: &str, scope: Scope| SecurityRequirement::new(scheme, [scope.as_str()]);
            let any = route
                .access
                .scopes()
                .iter()
                .flat_map(|scope| [one("jwt", scope), one("api_key", scope)]);
            operation.security = Some(any.collect());
        }
    }
}

fn operation_of<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match method.as_str() {
        "GET" => item.get.as_mut(),
        "PUT" => item.put.as_mut(),
        "POST" => item.post.as_mut(),
        "DELETE" => item.delete.as_mut(),
        "PATCH" => item.patch.as_mut(),
        _ => None,
    }
}
