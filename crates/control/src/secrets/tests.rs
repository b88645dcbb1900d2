#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanfare_core::SystemEntropy;

use super::*;

#[test]
fn a_text_opens_only_for_its_endpoint_and_under_its_secret() {
    let (mine, other) = (MainSecret::from_bytes([1; 32]), MainSecret::from_bytes([2; 32]));
    let (endpoint, neighbour) = (EndpointId::from_bytes([1; 20]), EndpointId::from_bytes([2; 20]));
    let sealed = mine.sealer().seal(endpoint, "whsec_abc", &SystemEntropy);

    assert_eq!(mine.sealer().unseal(endpoint, &sealed), Ok("whsec_abc".to_owned()));
    assert_eq!(mine.sealer().unseal(neighbour, &sealed), Err(SealError));
    assert_eq!(other.sealer().unseal(endpoint, &sealed), Err(SealError));
    for damaged in [&[][..], &[0; 11], &[0; 12], &[0; 40], &sealed.as_bytes()[1..]] {
        assert_eq!(mine.sealer().unseal(endpoint, &Sealed::from_bytes(damaged)), Err(SealError));
    }
    let json = serde_json::to_string(&sealed).unwrap();
    assert_eq!(serde_json::from_str::<Sealed>(&json).unwrap(), sealed);
    assert_ne!(sealed, mine.sealer().seal(endpoint, "whsec_abc", &SystemEntropy));
}

#[test]
fn derived_values_differ_by_purpose_and_secret() {
    let (one, two) = (MainSecret::from_bytes([1; 32]), MainSecret::from_bytes([2; 32]));
    assert_eq!(one.check_value(), MainSecret::from_bytes([1; 32]).check_value());
    assert_ne!(one.check_value(), two.check_value());
    assert_ne!(one.token_key(), two.token_key());
    assert_ne!(one.api_key_key(), two.api_key_key());
    assert_ne!(one.api_key_key(), one.token_key());
    assert_ne!(one.derive::<16>(b"fanfare check value v1")[..], one.token_key()[..16]);
}

#[test]
fn the_file_is_made_once_and_kept_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("main-secret");
    let made = MainSecret::load_or_create(&path, &SystemEntropy).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(MainSecret::load_or_create(&path, &SystemEntropy).unwrap(), made);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = MainSecret::load_or_create(&path, &SystemEntropy).unwrap_err();
    assert!(error.to_string().contains("mode 640"), "{error}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "c2hvcnQ=\n").unwrap();
    assert!(matches!(MainSecret::from_file(&path), Err(MainSecretError::Malformed { .. })));
    let missing = MainSecret::from_file(&directory.path().join("other")).unwrap_err();
    assert!(matches!(missing, MainSecretError::Read { .. }));
    assert!(!format!("{made:?}").contains('['));
}
