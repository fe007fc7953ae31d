//! Tokens that must be taken and tokens that must be refused; headers; scopes and bound credentials.

use super::token::LEEWAY_SECONDS;
use super::*;
use actix_web::http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use actix_web::test::TestRequest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const SECRET: &[u8] = b"a secret of 32 bytes and no less";
const NOW_SECONDS: i64 = 1_767_225_600;
const NOW: Timestamp = Timestamp::from_micros(NOW_SECONDS * 1_000_000);

fn verifier() -> Verifier {
    Verifier::new(Keys::none().with_secret(SECRET).expect("long enough"), "weir", "weir")
}

/// A token of any header and claims, signed with HS256 by `secret`.
fn signed_by(secret: &[u8], header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).expect("HMAC");
    format!("{signed}.{signature}")
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn claims(change: Value) -> String {
    let mut claims = json!({"iss": "weir", "aud": "weir", "sub": "svc-1", "exp": NOW_SECONDS + 600, "scope": "authorize read"});
    for (name, value) in change.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.to_string()
}

fn without(name: &str) -> String {
    let mut claims: Value = serde_json::from_str(&claims(json!({}))).expect("JSON");
    claims.as_object_mut().expect("an object").shift_remove(name);
    claims.to_string()
}

fn verify(verifier: &Verifier, token: &str) -> Result<Identity, Refused> {
    verifier.rules.verify(&Keys::none(), token, NOW).map(|verified| verified.identity)
}

#[test]
fn tokens_of_public_keys_are_held_to_the_algorithm_of_the_key() {
    let table: Value = serde_json::from_str(include_str!("signed.json")).expect("JSON");
    let pem = |name: &str| table["keys"][name].as_str().expect("a key");
    let all = ["rsa", "p256", "p384", "ed25519"]
        .iter()
        .try_fold(Keys::none(), |keys, name| keys.with_pem(pem(name)));
    let verifier = Verifier::new(all.expect("good keys"), "weir", "weir");
    assert_eq!(table["now"], NOW_SECONDS);
    let cases = table["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 20);
    for case in cases {
        let accepted = verify(&verifier, case["token"].as_str().expect("a token"));
        assert_eq!(
            accepted.is_ok(),
            case["accept"].as_bool().expect("a verdict"),
            "{}: {accepted:?}",
            case["name"]
        );
    }
}

#[test]
fn a_named_key_verifies_only_tokens_that_name_it() {
    let table: Value = serde_json::from_str(include_str!("signed.json")).expect("JSON");
    let keys = Keys::none()
        .with_named_pem("r1", table["keys"]["rsa"].as_str().expect("a key"))
        .expect("a good key");
    let verifier = Verifier::new(keys, "weir", "weir");
    for case in table["cases"].as_array().expect("cases") {
        assert!(
            verify(&verifier, case["token"].as_str().expect("a token")).is_err(),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn of_several_keys_in_a_file_the_one_that_is_named_verifies() {
    let table: Value = serde_json::from_str(include_str!("signed.json")).expect("JSON");
    let pem = |name: &str| table["keys"][name].as_str().expect("a key");
    let file = format!(
        "the old one\nkid: r1\n{}\n# kid: no\nkid:e1\n{}{}",
        pem("rsa"),
        pem("p256"),
        pem("ed25519")
    );
    assert_eq!(
        Keys::none().with_file(&file).map(|keys| format!("{keys:?}")),
        Ok(r#"[("RS256", Some("r1")), ("ES256", Some("e1")), ("EdDSA", None)]"#.to_owned())
    );
}

#[test]
fn keys_that_cannot_be_trusted_are_refused_when_they_are_read() {
    let table: Value = serde_json::from_str(include_str!("signed.json")).expect("JSON");
    let pem = |group: &str, name: &str| table[group][name].as_str().expect("a key").to_owned();
    let rsa = pem("keys", "rsa");
    let broken = rsa.replacen('M', "?", 1);
    let cut: String = rsa.lines().filter(|line| !line.starts_with("-----END")).collect();
    let short: String = rsa
        .lines()
        .enumerate()
        .filter(|(number, _)| *number != 3)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    for (text, expected) in [
        (pem("refused_keys", "rsa_1024"), KeysError::ShortRsa),
        (pem("refused_keys", "secp256k1"), KeysError::OtherAlgorithm),
        (String::new(), KeysError::NoKey),
        ("no key at all".to_owned(), KeysError::NoKey),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----".to_owned(),
            KeysError::OtherBlock("PRIVATE KEY".to_owned()),
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_owned(),
            KeysError::OtherBlock("CERTIFICATE".to_owned()),
        ),
        (broken, KeysError::Broken),
        (cut, KeysError::Broken),
        (short, KeysError::Broken),
        (rsa.repeat(17), KeysError::TooMany),
    ] {
        assert_eq!(Keys::none().with_pem(&text).expect_err("refused"), expected, "{text}");
    }
    assert_eq!(Keys::none().with_secret(&[0; 31]).expect_err("refused"), KeysError::ShortSecret(31));
    assert!(Keys::none().with_pem(&pem("keys", "rsa_pkcs1")).is_ok());
    let several = format!("for the old one\n{rsa}\nand the new one\n{}", pem("keys", "p256"));
    assert_eq!(
        Keys::none().with_pem(&several).map(|keys| format!("{keys:?}")),
        Ok(r#"[("RS256", None), ("ES256", None)]"#.to_owned())
    );
}

#[test]
fn a_header_that_asks_for_anything_special_is_refused() {
    let verifier = verifier();
    for (header, good) in [
        (HS256, true),
        (r#"{"alg":"HS256"}"#, true),
        (r#"{"alg":"HS256","typ":"at+jwt"}"#, true),
        (r#"{"alg":"HS256","kid":"x' UNION SELECT 'a'-- "}"#, true),
        (
            r#"{"alg":"HS256","jku":"https://evil.example","x5u":"https://evil.example","jwk":{"kty":"oct","k":"AA"}}"#,
            true,
        ),
        (r#"{"alg":"HS256","kid":1}"#, false),
        (r#"{"alg":"HS256","kid":null}"#, false),
        (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, false),
        (r#"{"alg":"HS256","crit":[]}"#, false),
        (r#"{"alg":"HS256","b64":false}"#, false),
        (r#"{"alg":"HS256","zip":"DEF"}"#, false),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, false),
        (r#"{"alg":"HS256","typ":5}"#, false),
        (r#"{"alg":"none"}"#, false),
        (r#"{"alg":"NONE"}"#, false),
        (r#"{"alg":"nOnE"}"#, false),
        (r#"{"alg":""}"#, false),
        (r#"{"alg":"hs256"}"#, false),
        (r#"{"alg":"HS512"}"#, false),
        (r#"{"alg":"RS256"}"#, false),
        (r#"{"alg":["HS256"]}"#, false),
        (r#"{"alg":"none","alg":"HS256"}"#, false),
        (r#"{"typ":"JWT"}"#, false),
        (r#"["HS256"]"#, false),
        ("x", false),
        ("", false),
    ] {
        let verified = verify(&verifier, &signed_by(SECRET, header, &claims(json!({}))));
        assert_eq!(verified.is_ok(), good, "{header}: {verified:?}");
    }
}

#[test]
fn claims_must_be_there_and_of_the_right_type() {
    let verifier = verifier();
    for (change, good) in [
        (json!({}), true),
        (json!({"aud": ["other", "weir"]}), true),
        (json!({"exp": NOW_SECONDS as f64 + 600.5}), true),
        (json!({"exp": 1e300}), true),
        (json!({"nbf": NOW_SECONDS, "iat": NOW_SECONDS}), true),
        (json!({"email": "x@example.com", "scope": ""}), true),
        (json!({"iss": "https://evil.example"}), false),
        (json!({"iss": ["weir"]}), false),
        (json!({"iss": null}), false),
        (json!({"aud": "other"}), false),
        (json!({"aud": ["other"]}), false),
        (json!({"aud": []}), false),
        (json!({"aud": {"weir": true}}), false),
        (json!({"aud": "weir,other"}), false),
        (json!({"exp": (NOW_SECONDS + 600).to_string()}), false),
        (json!({"exp": null}), false),
        (json!({"exp": true}), false),
        (json!({"exp": -1}), false),
        (json!({"exp": 0}), false),
        (json!({"nbf": (NOW_SECONDS - 600).to_string()}), false),
        (json!({"nbf": null}), false),
        (json!({"iat": "yesterday"}), false),
        (json!({"sub": ""}), false),
        (json!({"sub": 5}), false),
        (json!({"sub": "a\nb"}), false),
        (json!({"sub": "x".repeat(256)}), false),
        (json!({"scope": ["admin"]}), false),
        (json!({"scope": null}), false),
        (json!({"workspace_id": null}), false),
        (json!({"workspace_id": ""}), false),
        (json!({"workspace_id": "a b"}), false),
        (json!({"workspace_id": ["ws_a"]}), false),
    ] {
        let verified = verify(&verifier, &signed_by(SECRET, HS256, &claims(change.clone())));
        assert_eq!(verified.is_ok(), good, "{change}: {verified:?}");
    }
    for name in ["iss", "aud", "exp", "sub"] {
        assert!(
            verify(&verifier, &signed_by(SECRET, HS256, &without(name))).is_err(),
            "without {name}"
        );
    }
    assert!(
        verify(&verifier, &signed_by(SECRET, HS256, &without("scope")))
            .expect("scopes are not required")
            .scopes
            .is_empty()
    );
    let doubled = claims(json!({})).replacen('{', r#"{"scope":"admin","#, 1);
    assert!(verify(&verifier, &signed_by(SECRET, HS256, &doubled)).is_err(), "a doubled claim");
    let array = format!(r#"["weir","weir",{},null,null,"svc-1"]"#, NOW_SECONDS + 600);
    assert!(verify(&verifier, &signed_by(SECRET, HS256, &array)).is_err(), "claims in an array");
}

#[test]
fn the_leeway_is_a_minute_on_either_side() {
    let verifier = verifier();
    for (change, good) in [
        (json!({"exp": NOW_SECONDS - LEEWAY_SECONDS + 1}), true),
        (json!({"exp": NOW_SECONDS - LEEWAY_SECONDS}), false),
        (json!({"nbf": NOW_SECONDS + LEEWAY_SECONDS}), true),
        (json!({"nbf": NOW_SECONDS + LEEWAY_SECONDS + 1}), false),
        (json!({"iat": NOW_SECONDS + LEEWAY_SECONDS}), true),
        (json!({"iat": NOW_SECONDS + LEEWAY_SECONDS + 1}), false),
        (json!({"nbf": NOW_SECONDS - 600, "iat": NOW_SECONDS + 600}), false),
    ] {
        assert_eq!(
            verify(&verifier, &signed_by(SECRET, HS256, &claims(change.clone()))).is_ok(),
            good,
            "{change}"
        );
    }
}

#[test]
fn what_is_not_a_token_of_ours_is_refused() {
    let verifier = verifier();
    let good = signed_by(SECRET, HS256, &claims(json!({})));
    assert!(verify(&verifier, &good).is_ok());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let mut forged = good.clone().into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    for token in [
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        format!(".{signature}"),
        format!("{good}\n"),
        format!("{good}="),
        format!("{good}.{signature}"),
        format!("{good}, {good}"),
        format!("{}.{signature}", signed.replace('.', "=.")),
        signed_by(b"another secret of 32 bytes or so", HS256, &claims(json!({}))),
        signed_by(b"", HS256, &claims(json!({}))),
        String::from_utf8(forged).expect("ASCII"),
        signed_by(SECRET, HS256, &claims(json!({"pad": "A".repeat(TOKEN_BYTES_MAX)}))),
        signed_by(SECRET, HS256, &claims(json!({"pad": "A".repeat(1 << 20)}))),
        "weir_sk_0123456789abcdef".to_owned(),
    ] {
        assert!(verify(&verifier, &token).is_err(), "{}", &token[..token.len().min(300)]);
    }
}

/// Who calls with these headers, as far as that can be said without a store and without an issuer.
fn admit_at_once(verifier: &Verifier, headers: &HeaderMap, access: Access, now: Timestamp) -> Result<Identity, Problem> {
    let identity = bearer(headers)
        .and_then(|token| verifier.identify_at_once(token, now))
        .map_err(refusal)?;
    admit(&identity, access)?;
    Ok(identity)
}

fn admitted(verifier: &Verifier, headers: &[(&str, &str)], access: Access, now: Timestamp) -> Result<Identity, (u16, String)> {
    let mut request = TestRequest::get();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request = request.append_header((name, HeaderValue::from_str(value).expect("a value")));
    }
    let request = request.to_http_request();
    admit_at_once(verifier, request.headers(), access, now).map_err(|problem| {
        let response = problem.response(&request);
        let challenge = response
            .headers()
            .get(WWW_AUTHENTICATE)
            .map(|value| value.to_str().expect("ASCII").to_owned());
        (response.status().as_u16(), challenge.unwrap_or_default())
    })
}

#[test]
fn the_header_is_one_bearer_credential() {
    let verifier = verifier();
    let token = signed_by(SECRET, HS256, &claims(json!({})));
    let access = Access::scope(Scope::Read);
    for scheme in ["Bearer ", "bearer ", "BEARER ", "Bearer   "] {
        let header = format!("{scheme}{token}");
        assert!(
            admitted(&verifier, &[("authorization", &header)], access, NOW).is_ok(),
            "{scheme:?}"
        );
    }
    let good = format!("Bearer {token}");
    let none = admitted(&verifier, &[], access, NOW).expect_err("no credential");
    assert_eq!(none, (401, "Bearer".to_owned()));
    for headers in [
        &[("authorization", good.as_str()), ("authorization", good.as_str())][..],
        &[("authorization", good.as_str()), ("Authorization", "Bearer x")],
        &[("authorization", token.as_str())],
        &[("authorization", "Basic dTpw")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", &format!("Bearer\t{token}"))],
        &[("authorization", &format!("Bearer {token}, Bearer {token}"))],
        &[("authorization", &format!("Bearer {}", "A".repeat(TOKEN_BYTES_MAX)))],
    ] {
        let (status, challenge) = admitted(&verifier, headers, access, NOW).expect_err("refused");
        assert!(
            status == 401 && challenge.starts_with("Bearer error=\"invalid_token\""),
            "{headers:?}: {status} {challenge}"
        );
    }
}

#[test]
fn a_remembered_token_ends_like_any_other() {
    let verifier = verifier();
    let header = format!("Bearer {}", signed_by(SECRET, HS256, &claims(json!({"exp": NOW_SECONDS + 10}))));
    let at = |seconds: i64| {
        admitted(
            &verifier,
            &[("authorization", &header)],
            Access::scope(Scope::Read),
            NOW.plus_seconds(seconds),
        )
    };
    assert_eq!(at(0).expect("valid").subject, "svc-1");
    assert_eq!(at(0), at(10 + LEEWAY_SECONDS - 1));
    let (status, challenge) = at(10 + LEEWAY_SECONDS).expect_err("expired");
    assert!(status == 401 && challenge.contains("expired"), "{challenge}");
}

#[test]
fn scopes_open_what_they_name_and_bound_credentials_never_what_belongs_to_all() {
    let identity = |scopes: &str, workspace: Option<&str>| {
        let mut change = json!({"scope": scopes});
        if let Some(workspace) = workspace {
            change["workspace_id"] = json!(workspace);
        }
        verify(&verifier(), &signed_by(SECRET, HS256, &claims(change))).expect("a good token")
    };
    let reading = Access::scope(Scope::Read);
    let usage = reading.or(Scope::Portal);
    let admin = Access::scope(Scope::Admin);
    for (scopes, workspace, access, good) in [
        ("", None, Access::open(), true),
        ("", None, reading, false),
        ("read", None, reading, true),
        ("authorize usage:write", None, reading, false),
        ("admin", None, reading, true),
        ("admin", Some("ws_a"), reading, true),
        ("admin", Some("ws_a"), admin, true),
        ("admin", None, admin.unbound(), true),
        ("admin", Some("ws_a"), admin.unbound(), false),
        ("read", None, admin, false),
        ("portal", Some("ws_a"), usage, true),
        ("portal", Some("ws_a"), reading, false),
        // Without a workspace, portal would show everybody's usage.
        ("portal", None, usage, false),
        ("portal admin", None, usage, true),
    ] {
        let identity = identity(scopes, workspace);
        let admitted = admit(&identity, access);
        let code = admitted.as_ref().err().map(Problem::code);
        assert_eq!(
            code,
            if good { None } else { Some("insufficient_scope") },
            "{scopes} {workspace:?} {access:?}"
        );
    }
    let (a, b) = (
        WorkspaceId::parse("ws_a").expect("a name"),
        WorkspaceId::parse("ws_b").expect("a name"),
    );
    let bound = identity("admin", Some("ws_a"));
    assert!(bound.sees(&a) && !bound.sees(&b));
    assert!(identity("read", None).sees(&b));
    assert!(identity("portal", Some("ws_a")).sees_no_costs() && !identity("read portal", Some("ws_a")).sees_no_costs());
}

#[test]
fn what_is_minted_is_taken() {
    let workspace = WorkspaceId::parse("ws_a").expect("a name");
    let made = |workspace| {
        mint(
            SECRET,
            &Claims {
                issuer: "weir",
                audience: "weir",
                subject: "weir token",
                scopes: ScopeSet::of(Scope::UsageWrite).with(Scope::Read),
                workspace,
                issued_at: NOW,
                ttl_seconds: 3_600,
            },
        )
    };
    let identity = verify(&verifier(), &made(Some(&workspace))).expect("our own");
    assert_eq!(
        (identity.subject.as_str(), identity.scopes.joined(" ").as_str()),
        ("weir token", "usage:write read")
    );
    assert_eq!(identity.workspace.as_ref(), Some(&workspace));
    assert_eq!(verify(&verifier(), &made(None)).expect("our own").workspace, None);
}

#[test]
fn neither_keys_nor_tokens_are_ever_shown() {
    let verifier = verifier();
    let token = signed_by(SECRET, HS256, &claims(json!({"exp": 1})));
    let header = format!("Bearer {token}");
    let request = TestRequest::get().insert_header(("authorization", header)).to_http_request();
    let problem = admit_at_once(&verifier, request.headers(), Access::scope(Scope::Read), NOW).expect_err("expired");
    let body = serde_json::to_string(&problem.body(&request)).expect("JSON");
    for shown in [format!("{verifier:?}"), format!("{problem:?}"), problem.to_string(), body] {
        assert!(
            !shown.contains(&token) && !shown.contains(token.rsplit('.').next().expect("a signature")),
            "{shown}"
        );
        assert!(!shown.contains("a secret of 32"), "{shown}");
    }
    assert!(format!("{verifier:?}").contains("HS256"));
}
