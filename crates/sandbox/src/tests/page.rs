//! The page and its files.

use std::collections::BTreeMap;

use super::*;
use crate::page::{FILES, File, INDEX};
use crate::stage::{Bridge, Demo, Stage};

/// Returns every file with the path at which it is served.
fn files() -> impl Iterator<Item = (String, &'static File)> {
    let assets = FILES
        .iter()
        .map(|file| (format!("/_sandbox/page/{}", file.name), file));
    std::iter::once(("/".to_owned(), INDEX)).chain(assets)
}

async fn settings(stage: Stage) -> Value {
    let options = Options {
        stage,
        ..Options::default()
    };
    let answer = Cloud::with(options)
        .call("GET", "/_sandbox/page/settings", &[], "")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body
}

#[tokio::test]
async fn the_page_settings_name_the_bridge_to_call() {
    let url = "http://127.0.0.1:8080/".parse().unwrap();
    let bridge = Some(Bridge { url });
    let demo = Some(Demo {
        channel: "demo".to_owned(),
        token_key: "0123456789abcdef0123456789abcdef".to_owned().into(),
        api_key: "demo-key".to_owned().into(),
    });

    let alone = settings(Stage::default()).await;
    let beside = settings(Stage {
        bridge: bridge.clone(),
        demo: None,
    })
    .await;
    let demo = settings(Stage { bridge, demo }).await;

    assert_eq!(alone, json!({"mode": "sandbox", "bridge": null}));
    assert_eq!(
        beside,
        json!({"mode": "sandbox", "bridge": {
            "url": "http://127.0.0.1:8080", "channel": null, "mints_tokens": false}})
    );
    assert_eq!(
        demo,
        json!({"mode": "demo", "bridge": {
            "url": "http://127.0.0.1:8080", "channel": "demo", "mints_tokens": true}})
    );
}

#[tokio::test]
async fn page_files_are_served_with_their_media_type_and_security_headers() {
    let url = "https://bridge.example.com/at/a/path".parse().unwrap();
    let stage = Stage {
        bridge: Some(Bridge { url }),
        demo: None,
    };
    let cloud = Cloud::with(Options {
        stage,
        ..Options::default()
    });

    for (path, file) in files() {
        let answer = cloud.call("GET", &path, &[], "").await;

        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.bytes, file.content, "{path}");
        let header = |name: &str| answer.headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), file.kind, "{path}");
        assert_eq!(
            header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
             connect-src 'self' https://bridge.example.com; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn without_a_bridge_the_page_may_call_only_the_sandbox() {
    let answer = Cloud::new().call("GET", "/", &[], "").await;

    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("connect-src 'self';"), "{policy}");
}

#[tokio::test]
async fn a_file_that_the_page_does_not_have_is_not_found() {
    for path in ["/_sandbox/page/nothing.js", "/_sandbox/page/..%2Fpage.rs"] {
        let answer = Cloud::new().call("GET", path, &[], "").await;

        answer.assert_complaint(404, "the page has no file");
    }
}

#[test]
fn every_file_in_the_folder_is_served() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
    let mut existing: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    existing.sort();

    let mut served: Vec<_> = files().map(|(_, file)| file.name.to_owned()).collect();
    served.sort();

    assert_eq!(served, existing);
}

#[test]
fn nothing_in_the_page_leads_to_another_host() {
    for (path, file) in files() {
        // The sample's picture is named and never loaded; the content security policy forbids that
        // as well.
        let content = file.content.replace("https://example.com/shoes.jpg", "");

        for start in ["://", "\"//", "'//", "(//"] {
            assert!(!content.contains(start), "{path} has {start}");
        }
    }
}

#[test]
fn all_imported_modules_and_referenced_files_exist() {
    let names: Vec<_> = FILES.iter().map(|file| file.name).collect();
    let mut found = 0;
    for (path, file) in files() {
        for start in ["from \"./", "\"/_sandbox/page/"] {
            for rest in file.content.split(start).skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(
                    name == "settings" || names.contains(&name),
                    "{path}: {name}"
                );
                found += 1;
            }
        }
    }
    assert!(found > names.len(), "{found}");
}

#[test]
fn the_markup_has_no_inline_script_style_or_handler() {
    let markup = INDEX.content;

    assert!(!markup.contains("style="), "there is a style attribute");
    assert!(!markup.contains("<style"), "there is a style element");
    for tag in markup.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        assert!(!tag.contains(" on"), "a handler: {tag}");
        assert!(!tag.starts_with("script") || tag.contains(" src="), "{tag}");
    }
}

#[test]
fn the_page_uses_no_api_that_turns_text_into_markup() {
    for (path, file) in files() {
        for api in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "setHTMLUnsafe",
            "createContextualFragment",
            "DOMParser",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!file.content.contains(api), "{path} has {api}");
        }
    }
}

/// Reads the colours in a block of the style sheet, by name.
fn colours(css: &str) -> BTreeMap<&str, [u8; 3]> {
    css.lines()
        .filter_map(|line| {
            let (name, value) = line.trim().strip_prefix("--")?.split_once(": #")?;
            let digits = value.get(..6)?;
            let number = u32::from_str_radix(digits, 16).ok()?;
            let [_, red, green, blue] = number.to_be_bytes();
            Some((name, [red, green, blue]))
        })
        .collect()
}

/// Computes the contrast as WCAG 2 defines it.
fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let luminance = |colour: [u8; 3]| {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.03928 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_has_enough_contrast_in_the_light_and_dark_schemes() {
    const PAIRS: &[(&str, &[&str])] = &[
        (
            "text",
            &["ground", "panel", "sunken", "accent-soft", "bad-soft"],
        ),
        (
            "soft",
            &["ground", "panel", "sunken", "accent-soft", "bad-soft"],
        ),
        ("accent", &["ground", "panel", "sunken", "accent-soft"]),
        ("accent-text", &["accent"]),
        ("note", &["note-soft", "sunken"]),
        ("good", &["good-soft", "panel", "sunken"]),
        ("bad", &["bad-soft", "panel", "sunken"]),
        ("violet", &["violet-soft"]),
    ];
    let css = FILES.iter().find(|file| file.name == "page.css").unwrap();
    let (light, rest) = css
        .content
        .split_once("@media (prefers-color-scheme: dark)")
        .unwrap();
    let light = colours(light);
    let mut dark = light.clone();
    dark.extend(colours(rest));
    assert_ne!(light["panel"], dark["panel"]);

    for (scheme, colours) in [("light", light), ("dark", dark)] {
        for (text, grounds) in PAIRS {
            for ground in *grounds {
                let contrast = contrast(colours[text], colours[ground]);
                assert!(contrast >= 4.5, "{scheme}: {text} on {ground}: {contrast}");
            }
        }
    }
}
