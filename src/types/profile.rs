//! User profiles: the Cloud's `personal` and `ctmrinfo` engagement attributes, with the names of
//! the API.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use utoipa::ToSchema;

use super::time::Day;

/// The data about a user that agents see. Every member is optional.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "first_name": "Alice",
    "last_name": "Moreau",
    "birth_date": "1990-04-23",
    "language": "en-US",
    "contacts": [{
        "email": "alice@example.com",
        "phone": "+15551234567",
        "phone_type": "mobile",
        "address": {"country": "US", "region": "Oregon"},
    }],
    "customer": {"type": "vip", "customer_id": "C-1042", "balance": -12.5, "currency": "USD"},
}))]
pub struct Profile {
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// Gender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Gender>,
    /// Date of birth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<Day>,
    /// Language, such as `en-US`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The user's company.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Ways to reach the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Vec<Contact>>,
    /// The brand's data about its customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Customer>,
}

impl std::fmt::Debug for Profile {
    /// Leaves out everything, since profiles must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Profile([REDACTED])")
    }
}

/// The gender that agents see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gender {
    /// Male.
    Male,
    /// Female.
    Female,
    /// Another gender.
    Other,
}

/// A way to reach a user.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Email address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Phone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Type of the phone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_type: Option<PhoneType>,
    /// Address of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// The type of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhoneType {
    /// A phone at home.
    Home,
    /// A mobile phone.
    Mobile,
    /// A phone at work.
    Work,
    /// A fax machine.
    Fax,
    /// The main number.
    Main,
    /// A fax machine at home.
    HomeFax,
    /// A fax machine at work.
    WorkFax,
    /// A pager.
    Pager,
    /// Another type.
    Other,
}

/// The address of a user.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Region within the country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// The brand's data about its customer.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// Tier. It is matched against the account's list.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(example = "vip")]
    pub kind: Option<String>,
    /// Stage of the life cycle. It is matched against the account's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The customer's id in a social network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub social_id: Option<String>,
    /// The customer's id at the brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// The branch to which the customer belongs. Accounts can route conversations by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_branch: Option<String>,
    /// The customer's company, as an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    /// Balance. It may be negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub balance: Option<Number>,
    /// Currency of the balance, such as `USD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Number of people in the customer's company.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Int64, maximum = 4_294_967_295_u32)]
    pub company_size: Option<u32>,
    /// Role or title of the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Device or phone id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imei: Option<String>,
    /// Number of the customer's store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_number: Option<String>,
    /// Postal code of the customer's store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_zip_code: Option<String>,
    /// Login status, a number that the brand defines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_status: Option<i32>,
    /// Date of the customer's last payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_payment_date: Option<Day>,
    /// Date of the customer's registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_date: Option<Day>,
}

/// Replaces each named member that `newer` has.
macro_rules! take_newer {
    ($older:expr, $newer:expr, $($member:ident),+) => {
        $( if $newer.$member.is_some() { $older.$member = $newer.$member; } )+
    };
}

impl Profile {
    /// Replaces every member that `newer` has. Lists are replaced as a whole.
    pub fn merge(&mut self, newer: Self) {
        take_newer!(
            self, newer, first_name, last_name, gender, birth_date, language, company, contacts
        );
        if let Some(newer) = newer.customer {
            self.customer.get_or_insert_default().merge(newer);
        }
    }
}

impl Customer {
    fn merge(&mut self, newer: Self) {
        take_newer!(
            self,
            newer,
            kind,
            status,
            social_id,
            customer_id,
            company_branch,
            account_name,
            balance,
            currency,
            user_name,
            company_size,
            role,
            imei,
            store_number,
            store_zip_code,
            login_status,
            last_payment_date,
            registration_date
        );
    }
}

/// Removes the days that are no longer valid from a stored profile. Earlier versions accepted days
/// of any year, and a profile with such a day could not be read.
pub fn remove_impossible_days(stored: &mut Value) {
    for (object, name) in [
        ("", "birth_date"),
        ("/customer", "last_payment_date"),
        ("/customer", "registration_date"),
    ] {
        let members = stored.pointer_mut(object).and_then(Value::as_object_mut);
        if let Some(members) = members
            && let Some(day) = members.get(name)
            && Day::deserialize(day).is_err()
        {
            members.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn profile(value: serde_json::Value) -> Profile {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn merging_profiles_replaces_given_members_and_keeps_the_rest() {
        let mut known = profile(json!({
            "first_name": "Ada", "contacts": [{"phone": "1"}, {"phone": "2"}],
            "customer": {"type": "vip", "social_id": "u-42"},
        }));

        known.merge(profile(json!({
            "last_name": "Byron", "contacts": [{"email": "a@b.example"}], "customer": {"type": "gold"},
        })));

        assert_eq!(
            serde_json::to_value(&known).unwrap(),
            json!({
                "first_name": "Ada", "last_name": "Byron", "contacts": [{"email": "a@b.example"}],
                "customer": {"type": "gold", "social_id": "u-42"},
            })
        );
    }

    #[test]
    fn debugging_a_profile_shows_nothing_of_the_person() {
        let shown = format!("{:?}", profile(json!({"first_name": "Ada"})));

        assert!(!shown.contains("Ada"), "{shown}");
    }

    #[test]
    fn an_unknown_member_is_refused() {
        assert!(serde_json::from_value::<Profile>(json!({"firstname": "Ada"})).is_err());
    }

    #[test]
    fn only_impossible_dates_are_removed_from_a_profile() {
        let mut stored = json!({
            "first_name": "Ada", "birth_date": "+12345-01-01",
            "customer": {"type": "vip", "last_payment_date": "-0001-01-01", "registration_date": "2013-05-01"},
        });

        remove_impossible_days(&mut stored);

        assert_eq!(
            stored,
            json!({"first_name": "Ada", "customer": {"type": "vip", "registration_date": "2013-05-01"}})
        );
        for mut other in [json!({}), json!(null), json!([1]), json!({"customer": 1})] {
            let before = other.clone();
            remove_impossible_days(&mut other);
            assert_eq!(other, before);
        }
    }
}
