//! Tests of profiles on the wire, by example and by property.

use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// Generates an object of these members, any of which may be missing.
fn members(of: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let named = |(name, value): (&'static str, BoxedStrategy<Value>)| {
        option::of(value).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let members: Vec<_> = of.into_iter().map(named).collect();
    members
        .prop_map(|members| members.into_iter().flatten().collect())
        .boxed()
}

fn text() -> BoxedStrategy<Value> {
    "[a-zA-Zé👋\"\\\\ ]{0,8}".prop_map(Value::from).boxed()
}

fn one_of(names: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(names).prop_map(Value::from).boxed()
}

fn date() -> BoxedStrategy<Value> {
    let day = |(year, day)| NaiveDate::from_yo_opt(year, day);
    (1..=9999_i32, 1..=366_u32)
        .prop_filter_map("no day of that year", day)
        .prop_map(|date| json!(date))
        .boxed()
}

fn number() -> BoxedStrategy<Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-1e12..1e12_f64).prop_map(Value::from)
    ]
    .boxed()
}

fn profile() -> BoxedStrategy<Value> {
    let address = members(vec![("country", text()), ("region", text())]);
    let contact = members(vec![
        ("email", text()),
        ("phone", text()),
        (
            "phone_type",
            one_of(&[
                "home", "mobile", "work", "fax", "main", "home_fax", "work_fax", "pager", "other",
            ]),
        ),
        ("address", address),
    ]);
    let contacts = prop::collection::vec(contact, 0..3);
    let customer = members(vec![
        ("type", text()),
        ("status", text()),
        ("social_id", text()),
        ("customer_id", text()),
        ("company_branch", text()),
        ("account_name", text()),
        ("balance", number()),
        ("currency", text()),
        ("user_name", text()),
        ("company_size", any::<u32>().prop_map(Value::from).boxed()),
        ("role", text()),
        ("imei", text()),
        ("store_number", text()),
        ("store_zip_code", text()),
        ("login_status", any::<i32>().prop_map(Value::from).boxed()),
        ("last_payment_date", date()),
        ("registration_date", date()),
    ]);
    members(vec![
        ("first_name", text()),
        ("last_name", text()),
        ("gender", one_of(&["male", "female", "other"])),
        ("birth_date", date()),
        ("language", text()),
        ("company", text()),
        ("contacts", contacts.prop_map(Value::from).boxed()),
        ("customer", customer),
    ])
}

/// Returns the API's name for a member on the wire.
fn api_name(member: &str) -> String {
    match member {
        "firstname" => "first_name".to_owned(),
        "lastname" => "last_name".to_owned(),
        "age" => "birth_date".to_owned(),
        "ctype" => "type".to_owned(),
        "cstatus" => "status".to_owned(),
        camel => camel.chars().fold(String::new(), |mut snake, c| {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
            snake
        }),
    }
}

/// Translates a value on the wire back to the API's form.
fn to_api(value: &Value) -> Value {
    match value {
        Value::Object(date) if date.contains_key("year") => {
            let part = |name: &str| date[name].as_u64().unwrap();
            let [year, month, day] = ["year", "month", "day"].map(part);
            json!(format!("{year:04}-{month:02}-{day:02}"))
        }
        Value::Object(members) => {
            let member = |(member, value): (&String, &Value)| {
                let value = match (&member[..], value) {
                    ("gender" | "phoneType", Value::String(name)) => json!(name.to_lowercase()),
                    _ => to_api(value),
                };
                (api_name(member), value)
            };
            members.iter().map(member).collect()
        }
        Value::Array(elements) => elements.iter().map(to_api).collect(),
        value => value.clone(),
    }
}

/// Returns the value without empty members and elements.
fn without_blanks(value: Value) -> Value {
    let blank = |value: &Value| *value == json!({}) || *value == json!([]);
    match value {
        Value::Object(members) => {
            let members = members.into_iter();
            let members = members.map(|(name, value)| (name, without_blanks(value)));
            members.filter(|(_, value)| !blank(value)).collect()
        }
        Value::Array(elements) => {
            let elements = elements.into_iter().map(without_blanks);
            elements.filter(|element| !blank(element)).collect()
        }
        value => value,
    }
}

proptest! {
    #[test]
    fn a_profile_is_sent_completely_and_without_blank_members(profile in profile()) {
        let wire = on_the_wire(profile.clone());

        let mut received = Map::new();
        let attributes = wire.pointer("/authenticatedData/lp_sdes");
        for attribute in attributes.and_then(Value::as_array).into_iter().flatten() {
            match attribute["type"].as_str() {
                Some("ctmrinfo") => {
                    received.insert("customer".to_owned(), to_api(&attribute["info"]));
                }
                _ => received.extend(to_api(&attribute["personal"]).as_object().unwrap().clone()),
            }
        }
        prop_assert_eq!(Value::Object(received), without_blanks(profile));
        prop_assert_eq!(without_blanks(wire.clone()), wire, "an empty member was sent");
    }
}

fn on_the_wire(profile: Value) -> Value {
    let profile: Profile = serde_json::from_value(profile).unwrap();
    serde_json::to_value(SetUserProfile::new(Some(&profile))).unwrap()
}

#[test]
fn a_profile_is_sent_as_personal_and_customer_attributes() {
    let profile = json!({
        "first_name": "Ada", "last_name": "Byron", "gender": "female", "birth_date": "1815-12-10",
        "language": "en-GB", "company": "Engines", "contacts": [
            {"email": "a@b.example", "phone": "+1", "phone_type": "home_fax", "address": {"country": "GB", "region": "London"}},
            {"phone": "+2"}],
        "customer": {
            "type": "vip", "status": "new", "social_id": "u-42", "customer_id": "c-1", "company_branch": "North",
            "account_name": "Engines Ltd", "balance": -12.5, "currency": "GBP", "user_name": "ada", "company_size": 2,
            "role": "Countess", "imei": "35", "store_number": "7", "store_zip_code": "EC1", "login_status": 1,
            "last_payment_date": "2026-01-02", "registration_date": "2020-12-31"},
    });

    assert_eq!(
        on_the_wire(profile),
        json!({"authenticatedData": {"lp_sdes": [
            {"type": "ctmrinfo", "info": {
                "ctype": "vip", "cstatus": "new", "socialId": "u-42", "customerId": "c-1", "companyBranch": "North",
                "accountName": "Engines Ltd", "balance": -12.5, "currency": "GBP", "userName": "ada", "companySize": 2,
                "role": "Countess", "imei": "35", "storeNumber": "7", "storeZipCode": "EC1", "loginStatus": 1,
                "lastPaymentDate": {"day": 2, "month": 1, "year": 2026},
                "registrationDate": {"day": 31, "month": 12, "year": 2020}}},
            {"type": "personal", "personal": {
                "firstname": "Ada", "lastname": "Byron", "gender": "FEMALE", "age": {"year": 1815, "month": 12, "day": 10},
                "language": "en-GB", "company": "Engines", "contacts": [
                    {"email": "a@b.example", "phone": "+1", "phoneType": "HOME_FAX", "address": {"country": "GB", "region": "London"}},
                    {"phone": "+2"}]}},
        ]}})
    );
}

#[test]
fn empty_members_of_a_profile_are_omitted() {
    for empty in [
        json!({}),
        json!({"customer": {}}),
        json!({"contacts": []}),
        json!({"contacts": [{}]}),
        json!({"contacts": [{"address": {}}]}),
    ] {
        assert_eq!(on_the_wire(empty.clone()), json!({}), "{empty}");
    }
    assert_eq!(
        serde_json::to_value(SetUserProfile::new(None)).unwrap(),
        json!({})
    );
    assert_eq!(
        on_the_wire(json!({"contacts": [{"phone": "+1", "address": {}}]})),
        json!({"authenticatedData": {"lp_sdes": [{"type": "personal", "personal": {"contacts": [{"phone": "+1"}]}}]}})
    );
}
