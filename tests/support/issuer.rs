//! An issuer of tokens: keys of each kind, made when a test runs, and a server of its key set that can misbehave in each way.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A private key with its name.
pub struct Signer {
    pub kid: String,
    pub alg: &'static str,
    pair: Pair,
}

impl Signer {
    pub fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        Self::of(kid, "RS256", Pair::Rsa(pair))
    }

    pub fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self::of(kid, "ES256", Pair::Ec(pair))
    }

    pub fn p384(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
        Self::of(kid, "ES384", Pair::Ec(pair))
    }

    pub fn ed25519(kid: &str) -> Self {
        Self::of(kid, "EdDSA", Pair::Ed(Ed25519KeyPair::generate().expect("a key")))
    }

    fn of(kid: &str, alg: &'static str, pair: Pair) -> Self {
        Self {
            kid: kid.to_owned(),
            alg,
            pair,
        }
    }

    /// The public half, as an issuer publishes it.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({"kid": self.kid, "use": "sig", "alg": self.alg});
        let mut put = |name: &str, value: String| jwk[name] = json!(value);
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                put("kty", "RSA".to_owned());
                put("n", b64(public.modulus().big_endian_without_leading_zero()));
                put("e", b64(public.exponent().big_endian_without_leading_zero()));
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                put("kty", "EC".to_owned());
                put("crv", if x.len() == 32 { "P-256" } else { "P-384" }.to_owned());
                put("x", b64(x));
                put("y", b64(y));
            }
            Pair::Ed(pair) => {
                put("kty", "OKP".to_owned());
                put("crv", "Ed25519".to_owned());
                put("x", b64(pair.public_key().as_ref()));
            }
        }
        jwk
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let chance = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &chance, message, &mut signature).expect("signed");
                signature
            }
            Pair::Ec(pair) => pair.sign(&chance, message).expect("signed").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of this header and these claims, whatever they say.
    pub fn token_of(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.alg, "kid": self.kid, "typ": "JWT"})
    }

    /// A good token.
    pub fn token(&self, claims: &Value) -> String {
        self.token_of(&self.header(), claims)
    }
}

/// How the server of a key set answers.
#[derive(Clone)]
pub enum Answering {
    /// With the set of these keys.
    Keys(Vec<Value>),
    /// With this status, header lines and body.
    With(u16, String, String),
    /// Never.
    Hanging,
    /// With a body that never ends.
    Endless,
    /// A byte now and then.
    Dripping,
}

/// A server of a key set, and how often it was asked.
pub struct Issuer {
    pub url: String,
    pub asked: Arc<AtomicUsize>,
    answering: Arc<Mutex<Answering>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    pub async fn start(answering: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let (asked, answering) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(answering)));
        let (count, how) = (asked.clone(), answering.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                let how = how.lock().expect("no panic").clone();
                tokio::spawn(answer(connection, how));
            }
        });
        Self {
            url,
            asked,
            answering,
            task,
        }
    }

    pub fn answers(&self, answering: Answering) {
        *self.answering.lock().expect("no panic") = answering;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Whoever hangs up meanwhile is not told more.
async fn answer(mut connection: tokio::net::TcpStream, how: Answering) {
    let mut request = [0; 4_096];
    let _ = connection.read(&mut request).await;
    let whole = |status: u16, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    };
    match how {
        Answering::Keys(keys) => {
            let body = json!({"keys": keys}).to_string();
            let _ = connection.write_all(whole(200, "", &body).as_bytes()).await;
        }
        Answering::With(status, headers, body) => {
            let _ = connection.write_all(whole(status, &headers, &body).as_bytes()).await;
        }
        Answering::Hanging => tokio::time::sleep(Duration::from_secs(60)).await,
        Answering::Endless => {
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while connection.write_all(&[b' '; 65_536]).await.is_ok() {}
        }
        Answering::Dripping => {
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while connection.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
