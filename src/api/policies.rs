//! `/v1/admin/plans`, `models`, `routing`, `messages` and `billing`: the same objects as in the policy files. Each change is a new version.

use super::call::{Answer, Call, answer, ok};
use super::json::{self, OpenObject};
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use crate::flow;
use crate::policy::compile::messages::missing;
use crate::policy::document::{BillingDocument, MessagesDocument, ModelDocument, PlanDocument, RoutingDocument};
use crate::policy::object::{Kind, Object, ObjectId, billing_body, messages_body, model_body, plan_body, routing_body};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PolicyQuery {
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of the objects of a kind, by id: a catalogue is looked up by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

fn list(call: &Call, kind: Kind) -> Answer {
    let query: PolicyQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let after = page::place(query.cursor.as_deref(), |id| Some(id.to_owned()))?;
    let policy = call.service.policy.load();
    let of_kind = policy.objects().filter(|object| object.id.kind == kind);
    let rest = of_kind.filter(|object| after.as_ref().is_none_or(|after| object.id.id > *after));
    let mut objects: Vec<&Object> = rest.take(limit + 1).collect();
    let next_cursor = page::cut(&mut objects, limit, |last| last.id.id.clone());
    ok(&PolicyList {
        data: objects.into_iter().map(|object| object.body.clone()).collect(),
        next_cursor,
    })
}

fn show(call: &Call, id: &ObjectId) -> Answer {
    let policy = call.service.policy.load();
    let object = policy.object(id).ok_or_else(Problem::not_found)?;
    let status = if call.has(object.version)? {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    Ok(reply(status, object))
}

fn reply(status: StatusCode, object: &Object) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.insert_header(("ETag", format!("\"{}\"", object.version)));
    if status == StatusCode::NOT_MODIFIED {
        return response.finish();
    }
    answer(response, &object.body)
}

/// Writes an object; the answer is the document as it now stands, defaults filled in.
async fn write(call: &Call, id: ObjectId, body: Value) -> Answer {
    let before = call.service.policy.load().object(&id).is_some();
    let (by, expected, service, changed) = (call.by()?, call.expected()?, call.service.clone(), id.clone());
    let policy = durably(async move { flow::policy::change(&service, (changed, Some(body)), &by, &expected).await }).await?;
    let status = if before { StatusCode::OK } else { StatusCode::CREATED };
    Ok(reply(status, policy.object(&id).ok_or_else(Problem::not_found)?))
}

/// The body of an object whose id the path names too.
fn named_body<T: serde::de::DeserializeOwned>(call: &Call, id: &str) -> Result<T, Problem> {
    let given: OpenObject = call.json()?;
    let mut given = given.into_inner();
    match given.get("id").and_then(Value::as_str) {
        None if !given.contains_key("id") => {
            given.insert("id".to_owned(), Value::String(id.to_owned()));
        }
        Some(named) if named == id => {}
        _ => return Err(Problem::unacceptable("/id", "differs from the id in the path")),
    }
    json::from_value(Value::Object(given))
}

/// All plans, by id.
#[utoipa::path(get, path = "/v1/admin/plans", tag = "admin", params(PolicyQuery), responses((status = 200, body = PolicyList)))]
pub async fn list_plans(call: Call) -> Answer {
    list(&call, Kind::Plan)
}

/// A plan, with every default filled in.
#[utoipa::path(get, path = "/v1/admin/plans/{id}", tag = "admin", params(("id" = String, Path)), responses((status = 200, body = PlanDocument)))]
pub async fn get_plan(call: Call) -> Answer {
    show(&call, &ObjectId::plan(&call.path("id")))
}

/// Creates or replaces a plan. Counters do not move: a new budget starts with what its period already used.
#[utoipa::path(put, path = "/v1/admin/plans/{id}", tag = "admin", params(("id" = String, Path)), request_body = PlanDocument,
    responses((status = 200, body = PlanDocument), (status = 201, body = PlanDocument)))]
pub async fn put_plan(call: Call) -> Answer {
    let plan: PlanDocument = named_body(&call, &call.path("id"))?;
    write(&call, ObjectId::plan(&call.path("id")), plan_body(&plan)).await
}

/// Deletes a plan that no workspace is on.
#[utoipa::path(delete, path = "/v1/admin/plans/{id}", tag = "admin", params(("id" = String, Path)), responses((status = 204)))]
pub async fn delete_plan(call: Call) -> Answer {
    let (id, by, expected, service) = (call.path("id").into_owned(), call.by()?, call.expected()?, call.service.clone());
    durably(async move { flow::policy::delete_plan(&service, &id, &by, &expected).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// All models, by id.
#[utoipa::path(get, path = "/v1/admin/models", tag = "admin", params(PolicyQuery), responses((status = 200, body = PolicyList)))]
pub async fn list_models(call: Call) -> Answer {
    list(&call, Kind::Model)
}

/// A model, with every default filled in.
#[utoipa::path(get, path = "/v1/admin/models/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = ModelDocument)))]
pub async fn get_model(call: Call) -> Answer {
    show(&call, &ObjectId::model(&call.path("id")))
}

/// Creates or replaces a model. Holds that are open keep the price of their authorize.
#[utoipa::path(put, path = "/v1/admin/models/{id}", tag = "admin", params(("id" = String, Path)), request_body = ModelDocument,
    responses((status = 200, body = ModelDocument), (status = 201, body = ModelDocument)))]
pub async fn put_model(call: Call) -> Answer {
    let model: ModelDocument = named_body(&call, &call.path("id"))?;
    write(&call, ObjectId::model(&call.path("id")), model_body(&model)).await
}

/// The routing rules in their order.
#[utoipa::path(get, path = "/v1/admin/routing", tag = "admin", responses((status = 200, body = RoutingDocument)))]
pub async fn get_routing(call: Call) -> Answer {
    show(&call, &ObjectId::routing())
}

/// Replaces the routing rules; they are compiled before they are taken.
#[utoipa::path(put, path = "/v1/admin/routing", tag = "admin", request_body = RoutingDocument,
    responses((status = 200, body = RoutingDocument), (status = 201, body = RoutingDocument)))]
pub async fn put_routing(call: Call) -> Answer {
    let routing: RoutingDocument = call.json()?;
    write(&call, ObjectId::routing(), routing_body(&routing)).await
}

/// The texts of warnings, denials and events, where somebody wrote other ones than Weir brings along.
#[utoipa::path(get, path = "/v1/admin/messages", tag = "admin", responses((status = 200, body = MessagesDocument)))]
pub async fn get_messages(call: Call) -> Answer {
    show(&call, &ObjectId::messages())
}

/// Replaces the texts. Each placeholder is checked, and a language that Weir does not bring along must say everything.
#[utoipa::path(put, path = "/v1/admin/messages", tag = "admin", request_body = MessagesDocument,
    responses((status = 200, body = MessagesDocument), (status = 201, body = MessagesDocument)))]
pub async fn put_messages(call: Call) -> Answer {
    let messages: MessagesDocument = call.json()?;
    if let Some(lacking) = missing(&messages).into_iter().next() {
        return Err(Problem::unacceptable(lacking.pointer, lacking.detail));
    }
    write(&call, ObjectId::messages(), messages_body(&messages)).await
}

/// The meters, and the plans that a provider's prices stand for.
#[utoipa::path(get, path = "/v1/admin/billing", tag = "admin", responses((status = 200, body = BillingDocument)))]
pub async fn get_billing(call: Call) -> Answer {
    show(&call, &ObjectId::billing())
}

/// Replaces the meters, and the plans that a provider's prices stand for.
#[utoipa::path(put, path = "/v1/admin/billing", tag = "admin", request_body = BillingDocument,
    responses((status = 200, body = BillingDocument), (status = 201, body = BillingDocument)))]
pub async fn put_billing(call: Call) -> Answer {
    let billing: BillingDocument = call.json()?;
    write(&call, ObjectId::billing(), billing_body(&billing)).await
}
