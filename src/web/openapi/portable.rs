//! Rewrites schemas for generators of clients. The schemas of `schemars` are correct, but use more
//! of JSON Schema than most generators support; the rewritten ones mean the same. `docs/clients.md`
//! says which generators were tried.
//!
//! The rewriting is a sequence of passes over all schemas, see [`make_portable`]. Their order
//! matters: single strings become enumerations first, so that these count as simple when simple
//! components are inlined, and only then unreferenced components are removed.
//!
//! What may surprise. A doc comment on one variant of an enumeration changes what `schemars` makes
//! of it, from a list of strings to a choice; the first pass turns it back.

use std::collections::BTreeSet;

use rocket_okapi::okapi::openapi3::{OpenApi, ParameterValue, RefOr};
use schemars::Map;
use schemars::schema::{
    InstanceType, Metadata, Schema, SchemaObject, SingleOrVec, SubschemaValidation,
};
use schemars::visit::{Visitor, visit_schema_object};
use serde_json::Value;

/// Components whose values may have several types. No type is given for them: the description says
/// what they may be.
const ANYTHING: [&str; 2] = ["JobQueueBytes", "JobQueueCorruption"];

/// The prefix of references to components.
const PREFIX: &str = "#/components/schemas/";

/// Rewrites all schemas of the document:
///
/// * a choice between single strings becomes one enumeration;
/// * components that are not objects are inlined: generators make constants of named
///   enumerations, which collide if two of them share a string;
/// * objects that may be null are inlined too, because generators lose `nullable` beside a
///   reference;
/// * each variant of a tagged choice becomes a component.
pub(super) fn make_portable(document: &mut OpenApi) {
    each_schema(document, &mut |schema| Words.visit_schema_object(schema));
    let Some(components) = &mut document.components else { return };
    let mut simple = Map::new();
    for name in components.schemas.keys().cloned().collect::<Vec<_>>() {
        let schema = &components.schemas[&name];
        let is_anything = ANYTHING.contains(&name.as_str());
        if is_anything || is_scalar(schema) {
            let schema = components.schemas.shift_remove(&name).unwrap_or_default();
            let anything = SchemaObject { metadata: schema.metadata.clone(), ..Default::default() };
            simple.insert(name, if is_anything { anything } else { schema });
        }
    }
    let objects = components.schemas.clone();
    let mut inline = Inline { simple: &simple, objects: &objects };
    each_schema(document, &mut |schema| inline.visit_schema_object(schema));
    if let Some(components) = &mut document.components {
        name_variants(&mut components.schemas);
    }
    remove_unused(document);
}

/// Visits components, parameters, bodies and responses. A visitor descends into nested schemas
/// itself.
fn each_schema(document: &mut OpenApi, act: &mut dyn FnMut(&mut SchemaObject)) {
    if let Some(components) = &mut document.components {
        components.schemas.values_mut().for_each(&mut *act);
    }
    for item in document.paths.values_mut() {
        for operation in super::operations(item) {
            for parameter in &mut operation.parameters {
                if let RefOr::Object(parameter) = parameter
                    && let ParameterValue::Schema { schema, .. } = &mut parameter.value
                {
                    act(schema);
                }
            }
            let mut media = Vec::new();
            if let Some(RefOr::Object(body)) = &mut operation.request_body {
                media.extend(body.content.values_mut());
            }
            for response in operation.responses.responses.values_mut() {
                if let RefOr::Object(response) = response {
                    media.extend(response.content.values_mut());
                }
            }
            media.into_iter().filter_map(|media| media.schema.as_mut()).for_each(&mut *act);
        }
    }
}

/// Whether a schema has this type and no other.
fn has_type(schema: &SchemaObject, wanted: InstanceType) -> bool {
    matches!(&schema.instance_type, Some(SingleOrVec::Single(kind)) if **kind == wanted)
}

/// Whether a schema is of a single simple type.
fn is_scalar(schema: &SchemaObject) -> bool {
    use InstanceType::{Boolean, Integer, Number, String};
    [Boolean, Integer, Number, String].into_iter().any(|kind| has_type(schema, kind))
}

/// The description of a schema.
fn description(schema: &SchemaObject) -> Option<&str> {
    schema.metadata.as_ref()?.description.as_deref()
}

/// Sets the description of a schema. Without one, no empty metadata is left behind: it would
/// make a schema differ from another that is the same.
fn describe(schema: &mut SchemaObject, description: Option<String>) {
    schema.metadata().description = description.filter(|text| !text.is_empty());
    if schema.metadata.as_deref() == Some(&Metadata::default()) {
        schema.metadata = None;
    }
}

/// Joins two descriptions.
fn paragraphs(texts: [Option<&str>; 2]) -> Option<String> {
    let texts: Vec<&str> = texts.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    Some(texts.join("\n\n")).filter(|text| !text.is_empty())
}

/// Makes one enumeration of a choice between single strings, and lists their meanings in its
/// description.
struct Words;

impl Visitor for Words {
    fn visit_schema_object(&mut self, schema: &mut SchemaObject) {
        visit_schema_object(self, schema);
        let Some(choice) = schema.subschemas.as_ref().and_then(|all| all.one_of.as_ref()) else {
            return;
        };
        let words = |one: &Schema| match one {
            Schema::Object(one) if has_type(one, InstanceType::String) => {
                let words = one.enum_values.clone()?;
                let meaning = description(one).unwrap_or_default().to_owned();
                Some(words.into_iter().map(move |word| (word, meaning.clone())))
            }
            _ => None,
        };
        let Some(words) = choice.iter().map(words).collect::<Option<Vec<_>>>() else { return };
        let words: Vec<(Value, String)> = words.into_iter().flatten().collect();
        let lines = words.iter().filter(|(_, meaning)| !meaning.is_empty());
        let lines: Vec<String> = lines
            .map(|(word, meaning)| format!("* `{}`: {meaning}", word.as_str().unwrap_or_default()))
            .collect();
        let text = paragraphs([description(schema), Some(&lines.join("\n"))]);
        schema.subschemas = None;
        schema.instance_type = Some(InstanceType::String.into());
        schema.enum_values = Some(words.into_iter().map(|(word, _)| word).collect());
        describe(schema, text);
    }
}

/// Inlines components at their references: simple ones, and ones that may be null there.
struct Inline<'a> {
    simple: &'a Map<String, SchemaObject>,
    objects: &'a Map<String, SchemaObject>,
}

impl Visitor for Inline<'_> {
    fn visit_schema_object(&mut self, schema: &mut SchemaObject) {
        visit_schema_object(self, schema);
        if let Some(simple) = component(self.simple, schema.reference.as_deref()) {
            *schema = simple;
        }
        // A reference cannot have a description beside it, so it is wrapped in a list of one.
        let wrapped = match schema.subschemas.as_deref() {
            Some(SubschemaValidation { all_of: Some(all), .. }) => match &all[..] {
                [Schema::Object(one)] => Some(one.clone()),
                _ => None,
            },
            _ => None,
        };
        // Simple ones have been inlined by now.
        let is_nullable = schema.extensions.get("nullable") == Some(&Value::Bool(true));
        let object = wrapped.as_ref().filter(|_| is_nullable);
        let object = object.and_then(|one| component(self.objects, one.reference.as_deref()));
        let object = object.map(|mut object| {
            self.visit_schema_object(&mut object);
            object
        });
        match object.or(wrapped) {
            Some(wrapped) if wrapped.reference.is_none() => {
                let own = description(schema).map(str::to_owned);
                let theirs = description(&wrapped).filter(|_| wrapped.enum_values.is_some());
                let text = paragraphs([own.as_deref(), theirs])
                    .or_else(|| description(&wrapped).map(str::to_owned));
                *schema = wrapped;
                describe(schema, text);
                // A schema without a type allows null anyway.
                if is_nullable && schema.instance_type.is_some() {
                    schema.extensions.insert("nullable".to_owned(), Value::Bool(true));
                    // An enumeration would have to list null, which half of the generators refuse.
                    schema.enum_values = None;
                }
            }
            Some(_) => {}
            None if is_nullable && schema.instance_type.is_none() => {
                schema.extensions.swap_remove("nullable");
            }
            None => {}
        }
    }
}

/// The component of a reference.
fn component(all: &Map<String, SchemaObject>, reference: Option<&str>) -> Option<SchemaObject> {
    all.get(reference?.strip_prefix(PREFIX)?).cloned()
}

/// Removes components that are no longer referenced. Repeated until nothing changes, because a
/// removed component may have held the last reference to another.
fn remove_unused(document: &mut OpenApi) {
    /// Collects the names that references use.
    struct Named(BTreeSet<String>);

    impl Visitor for Named {
        fn visit_schema_object(&mut self, schema: &mut SchemaObject) {
            visit_schema_object(self, schema);
            self.0.extend(schema.reference.clone());
        }
    }

    loop {
        let mut named = Named(BTreeSet::new());
        each_schema(document, &mut |schema| named.visit_schema_object(schema));
        let Some(components) = &mut document.components else { return };
        let before = components.schemas.len();
        components.schemas.retain(|name, _| named.0.contains(&format!("{PREFIX}{name}")));
        if components.schemas.len() == before {
            return;
        }
    }
}

/// Gives each variant of a tagged choice a name of its own: the choice's name and the tag's
/// value, each word of it with a capital letter.
///
/// The choice gets no discriminator. With one, Rust clients of openapi-generator take the tag away
/// before they read a variant, and then miss it. Without one all clients tell the variants apart,
/// because the tag has a single value in each.
fn name_variants(schemas: &mut Map<String, SchemaObject>) {
    for name in schemas.keys().cloned().collect::<Vec<_>>() {
        let one_of = schemas[&name].subschemas.as_ref().and_then(|all| all.one_of.clone());
        let Some(variants) = one_of.as_deref().and_then(tagged) else { continue };
        let mut references = Vec::new();
        for (word, variant) in variants {
            let capital = |part: &str| {
                let mut rest = part.chars();
                let first = rest.next().map(|first| first.to_ascii_uppercase());
                format!("{}{}", first.unwrap_or_default(), rest.as_str())
            };
            let own = format!("{name}{}", word.split('_').map(capital).collect::<String>());
            references.push(Schema::new_ref(format!("{PREFIX}{own}")));
            schemas.insert(own, variant);
        }
        schemas[&name].subschemas().one_of = Some(references);
    }
}

/// The variants, if all are objects with a field that has a single value in each.
fn tagged(choice: &[Schema]) -> Option<Vec<(String, SchemaObject)>> {
    let objects: Option<Vec<&SchemaObject>> = choice
        .iter()
        .map(|one| match one {
            Schema::Object(one) => Some(one),
            Schema::Bool(_) => None,
        })
        .collect();
    let objects = objects?;
    let word = |object: &SchemaObject, field: &str| {
        let Schema::Object(field) = object.object.as_ref()?.properties.get(field)? else {
            return None;
        };
        match field.enum_values.as_deref()? {
            [Value::String(word)] => Some(word.clone()),
            _ => None,
        }
    };
    let mut fields = objects.first()?.object.as_ref()?.properties.keys();
    fields.find_map(|tag| {
        let words: Option<Vec<String>> = objects.iter().map(|object| word(object, tag)).collect();
        Some(words?.into_iter().zip(objects.iter().map(|object| (*object).clone())).collect())
    })
}
