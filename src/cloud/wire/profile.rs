//! The body of `userprofile.SetUserProfile`: a profile as the engagement attributes `personal` and
//! `ctmrinfo`.

use chrono::{Datelike as _, NaiveDate};
use serde::Serialize;
use serde_json::Number;

use crate::types::profile::{Address, Contact, Customer, Gender, PhoneType, Profile};
use crate::types::time::Day;

/// The body; `{}` for an empty profile.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct SetUserProfile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated_data: Option<AuthenticatedData<'a>>,
}

#[derive(Serialize)]
struct AuthenticatedData<'a> {
    lp_sdes: Vec<Attributes<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Attributes<'a> {
    Ctmrinfo { info: Box<CustomerInfo<'a>> },
    Personal { personal: Box<Personal<'a>> },
}

impl<'a> SetUserProfile<'a> {
    pub(in crate::cloud) fn new(profile: Option<&'a Profile>) -> Self {
        let customer = profile
            .and_then(|profile| profile.customer.as_ref())
            .map(CustomerInfo::from)
            .filter(|info| *info != CustomerInfo::default())
            .map(|info| Attributes::Ctmrinfo {
                info: Box::new(info),
            });
        let personal = profile
            .map(Personal::from)
            .filter(|personal| *personal != Personal::default())
            .map(|personal| Attributes::Personal {
                personal: Box::new(personal),
            });
        let lp_sdes: Vec<_> = customer.into_iter().chain(personal).collect();
        Self {
            authenticated_data: (!lp_sdes.is_empty()).then_some(AuthenticatedData { lp_sdes }),
        }
    }
}

#[derive(Serialize, Default, PartialEq)]
struct Personal<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    firstname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lastname: Option<&'a str>,
    /// Text, because the vendor's examples and schema have text, although its table says a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contacts: Vec<WireContact<'a>>,
}

impl<'a> From<&'a Profile> for Personal<'a> {
    fn from(profile: &'a Profile) -> Self {
        Self {
            firstname: profile.first_name.as_deref(),
            lastname: profile.last_name.as_deref(),
            gender: profile.gender.map(|gender| match gender {
                Gender::Male => "MALE",
                Gender::Female => "FEMALE",
                Gender::Other => "OTHER",
            }),
            age: profile.birth_date.map(Date::from),
            language: profile.language.as_deref(),
            company: profile.company.as_deref(),
            contacts: profile
                .contacts
                .iter()
                .flatten()
                .map(WireContact::from)
                .filter(|contact| *contact != WireContact::default())
                .collect(),
        }
    }
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct WireContact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a Address>,
}

impl<'a> From<&'a Contact> for WireContact<'a> {
    fn from(contact: &'a Contact) -> Self {
        Self {
            email: contact.email.as_deref(),
            phone: contact.phone.as_deref(),
            phone_type: contact.phone_type.map(|phone_type| match phone_type {
                PhoneType::Home => "HOME",
                PhoneType::Mobile => "MOBILE",
                PhoneType::Work => "WORK",
                PhoneType::Fax => "FAX",
                PhoneType::Main => "MAIN",
                PhoneType::HomeFax => "HOME_FAX",
                PhoneType::WorkFax => "WORK_FAX",
                PhoneType::Pager => "PAGER",
                PhoneType::Other => "OTHER",
            }),
            address: contact
                .address
                .as_ref()
                .filter(|address| **address != Address::default()),
        }
    }
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct CustomerInfo<'a> {
    #[serde(rename = "ctype", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(rename = "cstatus", skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    social_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<&'a Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imei: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_zip_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_payment_date: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_date: Option<Date>,
}

impl<'a> From<&'a Customer> for CustomerInfo<'a> {
    fn from(customer: &'a Customer) -> Self {
        Self {
            kind: customer.kind.as_deref(),
            status: customer.status.as_deref(),
            social_id: customer.social_id.as_deref(),
            customer_id: customer.customer_id.as_deref(),
            company_branch: customer.company_branch.as_deref(),
            account_name: customer.account_name.as_deref(),
            balance: customer.balance.as_ref(),
            currency: customer.currency.as_deref(),
            user_name: customer.user_name.as_deref(),
            company_size: customer.company_size,
            role: customer.role.as_deref(),
            imei: customer.imei.as_deref(),
            store_number: customer.store_number.as_deref(),
            store_zip_code: customer.store_zip_code.as_deref(),
            login_status: customer.login_status,
            last_payment_date: customer.last_payment_date.map(Date::from),
            registration_date: customer.registration_date.map(Date::from),
        }
    }
}

#[derive(Serialize, PartialEq)]
struct Date {
    year: i32,
    month: u32,
    day: u32,
}

impl From<Day> for Date {
    fn from(day: Day) -> Self {
        let date = NaiveDate::from(day);
        Self {
            year: date.year(),
            month: date.month(),
            day: date.day(),
        }
    }
}

#[cfg(test)]
mod tests;
