//! The final renderings for monitors: pure functions from typed machines to what the monitors read.

pub mod cloud_hypervisor;
pub mod firecracker;
pub mod qemu;
pub mod version;

/// The most bytes that the path of a Unix socket has, without its last zero.
const MOST_SOCKET: usize = 107;

/// The socket at which a connection of the guest's to `port` arrives, where its path can be one.
pub fn guest_socket(base: &str, port: u32) -> Option<String> {
    let path = format!("{base}_{port}");
    (path.len() <= MOST_SOCKET).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path_that_a_socket_can_have() {
        assert_eq!(guest_socket("/tmp/guest", 52).as_deref(), Some("/tmp/guest_52"));
        let longest = "/".repeat(MOST_SOCKET - 3);
        assert!(guest_socket(&longest, 52).is_some_and(|path| path.len() == MOST_SOCKET));
        assert_eq!(guest_socket(&longest, 520), None);
    }
}
