//! `schema`: the JSON Schemas of the documents.

use crate::arguments::Document;
use crate::failure::Done;
use crate::{json, terminal};

pub fn schema(document: Document) -> Done {
    let schema = match document {
        Document::Policy => sr_policy::json_schema(),
        Document::Bundle => sr_compiler::bundle_schema().to_value(),
        Document::Event => sr_evidence::event::event_schema(),
        Document::Report => sr_evidence::report::report_schema(),
        Document::Coverage => sr_compiler::coverage_schema().to_value(),
        Document::Approval => sr_evidence::approval::approval_schema(),
    };
    terminal::out(&json::pretty(&schema)?);
    Ok(0)
}
