//! The body of `userprofile.SetUserProfile`, with the two engagement attributes that the Send API
//! supports.

use serde::Deserialize;
use serde_json::Number;

/// The body of the request. Source: vendor's Send API page "Conversation" and the schema of its
/// `SetUserProfile`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Profile {
    authenticated_data: Option<AuthenticatedData>,
    first_name: Option<String>,
    last_name: Option<String>,
    user_id: Option<String>,
    avatar_url: Option<String>,
    role: Option<String>,
    backgnd_img_uri: Option<String>,
    description: Option<String>,
    private_data: Option<PrivateData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PrivateData {
    mobile_num: Option<String>,
    mail: Option<String>,
    push_notification_data: Option<PushNotificationData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PushNotificationData {
    service_name: Option<String>,
    cert_name: Option<String>,
    token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthenticatedData {
    lp_sdes: Vec<EngagementAttribute>,
}

/// An engagement attribute of either kind. Serde loses the path to a member inside a tagged enum,
/// so both kinds share one shape; [`Paired`] tells them apart.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Paired")]
struct EngagementAttribute;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paired {
    r#type: AttributeType,
    info: Option<CustomerInfo>,
    personal: Option<PersonalInfo>,
    auth: Option<AuthInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AttributeType {
    CtmrInfo,
    Personal,
}

impl TryFrom<Paired> for EngagementAttribute {
    type Error = &'static str;

    fn try_from(pair: Paired) -> Result<Self, Self::Error> {
        match (pair.r#type, pair.info, pair.personal) {
            (AttributeType::CtmrInfo, Some(_), None) | (AttributeType::Personal, None, Some(_)) => {
                Ok(Self)
            }
            (AttributeType::CtmrInfo, ..) => Err("type ctmrinfo: expected the member `info` alone"),
            (AttributeType::Personal, ..) => {
                Err("type personal: expected the member `personal` alone")
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthInfo {
    iss: Option<String>,
    amr: Option<Vec<String>>,
}

/// Customer info. Source: vendor's page "Types of Engagement Attributes".
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CustomerInfo {
    ctype: Option<String>,
    cstatus: Option<String>,
    balance: Option<Number>,
    currency: Option<String>,
    customer_id: Option<String>,
    social_id: Option<String>,
    imei: Option<String>,
    user_name: Option<String>,
    company_size: Option<i64>,
    company_branch: Option<String>,
    account_name: Option<String>,
    role: Option<String>,
    last_payment_date: Option<Date>,
    registration_date: Option<Date>,
    login_status: Option<i64>,
    store_zip_code: Option<String>,
    store_number: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Date {
    day: u8,
    month: u8,
    year: u16,
}

/// Personal info. Source: vendor's page "Types of Engagement Attributes". Unlike elsewhere, the
/// names are written `firstname` and `lastname`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonalInfo {
    firstname: Option<String>,
    lastname: Option<String>,
    company: Option<String>,
    gender: Option<Gender>,
    language: Option<String>,
    age: Option<Age>,
    contacts: Option<Vec<Contact>>,
}

/// The gender. One of the vendor's tables gives integers. Its example, the Send API pages and the
/// schema give these names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Gender {
    Male,
    Female,
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "AgeMembers")]
struct Age;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgeMembers {
    age: Option<u8>,
    year: Option<u16>,
    month: Option<u8>,
    day: Option<u8>,
}

impl TryFrom<AgeMembers> for Age {
    type Error = &'static str;

    fn try_from(members: AgeMembers) -> Result<Self, Self::Error> {
        match (members.age, members.year) {
            (None, None) => Err("expected `age`, or `year` from which it is computed"),
            _ => Ok(Self),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Contact {
    email: Option<String>,
    phone: Option<String>,
    phone_type: Option<PhoneType>,
    address: Option<Address>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum PhoneType {
    Home,
    Mobile,
    Work,
    Fax,
    Main,
    HomeFax,
    WorkFax,
    Pager,
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    country: Option<String>,
    region: Option<String>,
}
