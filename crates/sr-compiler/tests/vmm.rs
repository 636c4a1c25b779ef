//! What is rendered for Firecracker and Cloud Hypervisor, against what their published API descriptions say of names, types
//! and what must be there. The facts stand in `api/`, with the version that they are of: `name!` is required, `[T]` a list,
//! `{T}` a map, `A..B` a range.
#![allow(clippy::unwrap_used, clippy::panic)] // A panic is a failed test.

use serde_json::{Map, Value, json};
use sr_compiler::vmm::{cloud_hypervisor, firecracker};

struct Api(Value);

impl Api {
    fn read(text: &str) -> Api {
        Api(serde_json::from_str(text).unwrap())
    }

    fn firecracker() -> Api {
        Api::read(include_str!("api/firecracker.json"))
    }

    fn cloud_hypervisor() -> Api {
        Api::read(include_str!("api/cloud-hypervisor.json"))
    }

    /// What of `document` is not as described.
    fn errors(&self, document: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        let start = self.0["start"].as_str().unwrap();
        self.check(start, document, "", &mut errors);
        errors
    }

    fn check(&self, what: &str, value: &Value, at: &str, errors: &mut Vec<String>) {
        let mut wrong = |fits: bool| {
            if !fits {
                errors.push(format!("{at}: {value} is no {what}"));
            }
        };
        if let Some(items) = what.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match value.as_array() {
                Some(all) => {
                    for (number, item) in all.iter().enumerate() {
                        self.check(items, item, &format!("{at}/{number}"), errors);
                    }
                }
                None => wrong(false),
            };
        }
        if let Some(values) = what.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return match value.as_object() {
                Some(all) => {
                    for (name, value) in all {
                        self.check(values, value, &format!("{at}/{name}"), errors);
                    }
                }
                None => wrong(false),
            };
        }
        if let Some(names) = what.strip_prefix("one of: ") {
            return wrong(
                value
                    .as_str()
                    .is_some_and(|text| names.split(' ').any(|name| name == text)),
            );
        }
        if let Some(range) = what.strip_prefix("integer ") {
            let (least, most) = range.split_once("..").unwrap();
            let bound = |text: &str, open| if text.is_empty() { open } else { text.parse().unwrap() };
            let range = bound(least, i64::MIN)..=bound(most, i64::MAX);
            return wrong(value.as_i64().is_some_and(|number| range.contains(&number)));
        }
        match what {
            "string" => wrong(value.is_string()),
            "boolean" => wrong(value.is_boolean()),
            "integer" => wrong(value.is_i64() || value.is_u64()),
            "object" => wrong(value.is_object()),
            name => self.object(name, value, at, errors),
        }
    }

    fn object(&self, name: &str, value: &Value, at: &str, errors: &mut Vec<String>) {
        let definition = self.0["definitions"][name].as_object();
        let definition: &Map<String, Value> = definition.unwrap_or_else(|| panic!("{name} is not described"));
        if let Some(names) = definition.get("one of").and_then(Value::as_array) {
            if !names.contains(value) {
                errors.push(format!("{at}: {value} is no {name}"));
            }
            return;
        }
        let Some(fields) = value.as_object() else {
            errors.push(format!("{at}: {value} is no {name}"));
            return;
        };
        for (field, value) in fields {
            let found = definition.get(field).or_else(|| definition.get(&format!("{field}!")));
            match found.and_then(Value::as_str) {
                Some(what) => self.check(what, value, &format!("{at}/{field}"), errors),
                None => errors.push(format!("{at}: {name} has no {field}")),
            }
        }
        for required in definition.keys().filter_map(|field| field.strip_suffix('!')) {
            if !fields.contains_key(required) {
                errors.push(format!("{at}: {name} lacks {required}"));
            }
        }
    }
}

fn firecrackers(cpus: u32, disks: usize) -> Value {
    let machine = firecracker::Machine {
        program: "/wall/firecracker".into(),
        config: "/wall/machine.json".into(),
        memory: 512,
        cpus,
        kernel: "/wall/kernel".into(),
        initrd: "/wall/initrd".into(),
        disks: (0..disks).map(|number| format!("/wall/disk{number}")).collect(),
        socket: "/tmp/guest".into(),
    };
    serde_json::to_value(machine.configuration()).unwrap()
}

fn cloud_hypervisors(cpus: u32, disks: usize) -> Value {
    let machine = cloud_hypervisor::Machine {
        program: "/wall/cloud-hypervisor".into(),
        memory: 512 << 20,
        cpus,
        kernel: "/wall/kernel".into(),
        initrd: "/wall/initrd".into(),
        disks: (0..disks).map(|number| format!("/wall/disk{number}")).collect(),
        socket: "/tmp/guest".into(),
        landlock: cpus % 2 == 1,
    };
    serde_json::to_value(machine.configuration()).unwrap()
}

#[test]
fn what_firecracker_reads_is_as_it_describes_it() {
    for cpus in [0, 1, 3, 32, 33, u32::MAX] {
        for disks in 0..3 {
            let document = firecrackers(cpus, disks);
            assert_eq!(Api::firecracker().errors(&document), Vec::<String>::new(), "{document}");
        }
    }
}

#[test]
fn what_cloud_hypervisor_reads_is_as_it_describes_it() {
    for cpus in [0, 1, 3, 64] {
        for disks in 0..3 {
            let document = cloud_hypervisors(cpus, disks);
            assert_eq!(
                Api::cloud_hypervisor().errors(&document),
                Vec::<String>::new(),
                "{document}"
            );
        }
    }
}

#[test]
fn no_machine_has_a_network() {
    for (document, name) in [
        (firecrackers(2, 1), "network-interfaces"),
        (cloud_hypervisors(2, 1), "net"),
    ] {
        assert!(document.get(name).is_none(), "{document}");
    }
}

/// One change at a time to a document that is right: each is found, by its place.
#[test]
fn a_document_that_is_not_as_described_is_found() {
    let change = |pointer: &str, to: Value| {
        let mut document = firecrackers(2, 1);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match to {
            Value::Null => assert!(parent.remove(name).is_some()),
            to => drop(parent.insert(name.to_owned(), to)),
        }
        Api::firecracker().errors(&document)
    };
    for (pointer, to, expected) in [
        ("/boot_source", json!({}), ": FullVmConfiguration has no boot_source"),
        (
            "/boot-source/kernel_image_path",
            Value::Null,
            "/boot-source: BootSource lacks kernel_image_path",
        ),
        (
            "/machine-config/smt",
            json!("no"),
            "/machine-config/smt: \"no\" is no boolean",
        ),
        (
            "/machine-config/vcpu_count",
            json!(33),
            "/machine-config/vcpu_count: 33 is no integer 1..32",
        ),
        (
            "/machine-config/mem_size_mib",
            json!(1.5),
            "/machine-config/mem_size_mib: 1.5 is no integer",
        ),
        ("/vsock/guest_cid", json!(2), "/vsock/guest_cid: 2 is no integer 3.."),
        ("/vsock/uds_path", json!(7), "/vsock/uds_path: 7 is no string"),
        ("/drives", json!({}), "/drives: {} is no [Drive]"),
        (
            "/drives/0/io_engine",
            json!("Fast"),
            "/drives/0/io_engine: \"Fast\" is no one of: Sync Async",
        ),
        ("/entropy", json!(true), "/entropy: true is no EntropyDevice"),
    ] {
        assert_eq!(change(pointer, to), [expected]);
    }
    let mut document = cloud_hypervisors(2, 1);
    document["serial"]["mode"] = json!("Loud");
    let errors = Api::cloud_hypervisor().errors(&document);
    assert_eq!(errors, ["/serial/mode: \"Loud\" is no ConsoleMode"]);
}
