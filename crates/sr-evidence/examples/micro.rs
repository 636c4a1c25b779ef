use sr_evidence::key::*;
use std::time::Instant;
fn t(name: &str, n: u32, mut f: impl FnMut()) { for _ in 0..20 { f() } let s = Instant::now(); for _ in 0..n { f() } println!("{name:20} {:.1} µs", s.elapsed().as_secs_f64()*1e6/f64::from(n)); }
#[path = "../tests/support/mod.rs"]
mod support;
fn main() {
    let k = SigningKey::generate(Algorithm::EcdsaP256);
    let e = SigningKey::generate(Algorithm::Ed25519);
    let pem = k.to_pkcs8_pem().unwrap();
    let m = vec![7u8; 2000];
    t("p256 sign", 2000, || { std::hint::black_box(k.sign(&m).unwrap()); });
    t("ed sign", 2000, || { std::hint::black_box(e.sign(&m).unwrap()); });
    t("sha 2000", 2000, || { std::hint::black_box(sr_common::Digest::of(&m)); });
    t("parse key", 2000, || { std::hint::black_box(SigningKey::from_pkcs8_pem(&pem).unwrap()); });
    t("pub pem", 2000, || { std::hint::black_box(k.public().to_pem()); });
    let id = sr_common::RunId::new(1,[1;10]);
    let r = support::sample_report(&id, sr_evidence::report::now(), sr_common::Digest::ZERO, sr_common::Digest::ZERO);
    t("report bytes", 2000, || { std::hint::black_box(r.to_bytes().unwrap()); });
    t("report canon", 2000, || { std::hint::black_box(sr_common::canonical::to_bytes(&r).unwrap()); });
    t("report value", 2000, || { std::hint::black_box(serde_json::to_value(&r).unwrap()); });
}
