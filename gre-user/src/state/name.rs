//! Interface names as file names: the BPF filesystem keeps names with a dot for itself (`bpf_lookup()`).

/// The file name for an interface: '.' and '%' become %2E and %25.
pub(super) fn encode(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2E")
}

/// The interface that a file name stands for; `None` for a name that [`encode`] does not make.
pub(super) fn decode(file: &str) -> Option<String> {
    let interface = file.replace("%2E", ".").replace("%25", "%");
    (encode(&interface) == file).then_some(interface)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_are_encoded() {
        assert_eq!(encode("eth0"), "eth0");
        assert_eq!(encode("eth0.100"), "eth0%2E100");
        assert_eq!(encode("%2E."), "%252E%2E");
        assert_eq!(decode("a.b"), None);
        assert_eq!(decode("a%b"), None);
    }

    proptest! {
        #[test]
        fn names_survive(name in "[a-zA-Z0-9.%25E_-]{1,15}") {
            let file = encode(&name);
            prop_assert!(!file.contains('.'));
            prop_assert_eq!(decode(&file), Some(name));
        }
    }
}
