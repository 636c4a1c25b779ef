//! Images of containers: OCI layouts (image-spec, image-layout.md) and what `docker save` writes. Every document and layer is
//! held to the digest by which it is named, packed and unpacked.

use super::source::Source;
use crate::packed::{self, Hashing};
use crate::provenance::{ImageConfig, Input, Provenance};
use crate::tree::Tree;
use serde::Deserialize;
use sr_common::Digest;
use std::io;

/// Indexes that point to indexes.
const MAX_DEPTH: usize = 4;
const MAX_LAYERS: usize = 512;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Config {
    architecture: String,
    os: String,
    config: Option<Command>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Command {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

/// One image of a `docker save` archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|e| bad(format!("{what}: {e}")))
}

/// The image of an OCI layout that is this machine's.
pub fn layout(source: &Source<'_>, tree: &mut Tree) -> io::Result<Provenance> {
    let index: Index = parse("index.json", &source.document("index.json")?)?;
    let mut images = Vec::new();
    find(source, index, 0, &mut images)?;
    let one = match images.as_slice() {
        [one] => one.clone(),
        [] => return Err(bad(format!("it has no image for linux/{}", architecture()))),
        several => {
            let names: Vec<String> = several.iter().map(title).collect();
            return Err(bad(format!(
                "it has several images, and only one can be taken: {}",
                names.join(", ")
            )));
        }
    };
    let manifest: Manifest = parse("the manifest", &blob(source, &one)?)?;
    let config = blob(source, &manifest.config)?;
    let mut inputs = vec![input("manifest", one.digest), input("config", manifest.config.digest)];
    let config: Config = parse("the image's config", &config)?;
    let names = manifest.layers.iter().map(|layer| {
        let place = format!("blobs/sha256/{}", layer.digest.hex());
        (place, Some(layer))
    });
    let names: Vec<_> = names.collect();
    layers(source, &config, &names, tree, &mut inputs)?;
    Ok(provenance("import oci", inputs, config))
}

/// The image of a `docker save` archive.
pub fn saved(source: &Source<'_>, tree: &mut Tree) -> io::Result<Provenance> {
    let images: Vec<Saved> = parse("manifest.json", &source.document("manifest.json")?)?;
    let [one] = images.as_slice() else {
        let tags = images
            .iter()
            .map(|image| image.repo_tags.clone().unwrap_or_default().join(" "));
        let tags: Vec<String> = tags.collect();
        return Err(bad(format!(
            "it has {} images, and one can be taken: {}",
            tags.len(),
            tags.join(", ")
        )));
    };
    let bytes = source.document(&one.config)?;
    let digest = Digest::of(&bytes);
    // The config is called by its digest, in either form of the archive.
    let name = one
        .config
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".json");
    if name != digest.hex() {
        return Err(bad(format!("the image's config {name} is another one: {digest}")));
    }
    let config: Config = parse("the image's config", &bytes)?;
    let mut inputs = vec![input("config", digest)];
    let names: Vec<_> = one.layers.iter().map(|layer| (layer.clone(), None)).collect();
    layers(source, &config, &names, tree, &mut inputs)?;
    Ok(provenance("import docker", inputs, config))
}

/// The manifests of images for this machine.
fn find(source: &Source<'_>, index: Index, depth: usize, images: &mut Vec<Descriptor>) -> io::Result<()> {
    if depth >= MAX_DEPTH {
        return Err(bad("its indexes lead on and on"));
    }
    for descriptor in index.manifests {
        let fits = descriptor
            .platform
            .as_ref()
            .is_none_or(|p| p.os == "linux" && p.architecture == architecture());
        if !fits {
            continue;
        }
        if descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list") {
            let inner = parse("an index", &blob(source, &descriptor)?)?;
            find(source, inner, depth + 1, images)?;
        } else if !images.iter().any(|image| image.digest == descriptor.digest) {
            images.push(descriptor);
        }
    }
    Ok(())
}

/// As these documents call this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn title(image: &Descriptor) -> String {
    let name = image
        .annotations
        .as_ref()
        .and_then(|all| all.get("org.opencontainers.image.ref.name"));
    name.cloned().unwrap_or_else(|| image.digest.to_string())
}

fn input(name: &str, digest: Digest) -> Input {
    Input {
        name: name.to_owned(),
        version: None,
        digest: Some(digest),
    }
}

/// A document by its digest and size.
fn blob(source: &Source<'_>, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
    let bytes = source.document(&format!("blobs/sha256/{}", descriptor.digest.hex()))?;
    check(descriptor, Digest::of(&bytes), bytes.len() as u64)?;
    Ok(bytes)
}

fn check(descriptor: &Descriptor, digest: Digest, size: u64) -> io::Result<()> {
    if (digest, size) == (descriptor.digest, descriptor.size) {
        return Ok(());
    }
    let wanted = format!("{} of {} bytes", descriptor.digest, descriptor.size);
    Err(bad(format!("{wanted} is another one: {digest} of {size} bytes")))
}

/// Adds the layers in their order, each held to its digests.
fn layers(
    source: &Source<'_>,
    config: &Config,
    names: &[(String, Option<&Descriptor>)],
    tree: &mut Tree,
    inputs: &mut Vec<Input>,
) -> io::Result<()> {
    if (config.os.as_str(), config.architecture.as_str()) != ("linux", architecture()) {
        let is = format!("{}/{}", config.os, config.architecture);
        return Err(bad(format!(
            "the image is for {is}, this machine is linux/{}",
            architecture()
        )));
    }
    let known = config.rootfs.diff_ids.as_slice();
    if known.len() != names.len() || names.len() > MAX_LAYERS {
        return Err(bad(format!(
            "the image has {} layers, its config knows {}",
            names.len(),
            known.len()
        )));
    }
    for (n, ((name, descriptor), known)) in names.iter().zip(known).enumerate() {
        let (file, length) = source.open(name)?;
        if let Some(descriptor) = descriptor.filter(|descriptor| descriptor.size != length) {
            let (digest, size) = (descriptor.digest, descriptor.size);
            return Err(bad(format!(
                "{digest} of {size} bytes is another one: it has {length} bytes"
            )));
        }
        let mut packed = Hashing::new(file);
        let limits = tree.limits();
        // Headers and padding are more than what is in the files.
        let most = limits.bytes.saturating_add(limits.entries.saturating_mul(2048));
        let mut unpacked = Hashing::new(packed::unpacked(&mut packed, most)?);
        let layer = format!("layer {}", n + 1);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{layer}: {e}"));
        tree.next_layer();
        super::add(&mut unpacked, tree).map_err(named)?;
        let (found, _) = unpacked.finish().map_err(named)?;
        if found != *known {
            return Err(bad(format!(
                "{layer} is another one than the config knows: {found}, not {known}"
            )));
        }
        let (digest, size) = packed.finish()?;
        if let Some(descriptor) = descriptor {
            check(descriptor, digest, size)?;
        }
        inputs.push(input(&layer, digest));
    }
    Ok(())
}

fn provenance(how: &str, inputs: Vec<Input>, config: Config) -> Provenance {
    let command = config.config.unwrap_or_default();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    Provenance {
        how: how.to_owned(),
        inputs,
        config: Some(ImageConfig {
            env: command.env.unwrap_or_default(),
            entrypoint: command.entrypoint.unwrap_or_default(),
            cmd: command.cmd.unwrap_or_default(),
            working_dir: filled(command.working_dir),
            user: filled(command.user),
        }),
        ..Provenance::default()
    }
}
