"""All rules of the contract, including those of DESIGN that no existing linter checks.

A rule is a function from the bundled contract to its findings. `test_lint.py` runs each on the
contract, where it must find nothing, and on contracts that were broken for it, where it must.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from api.contract.compile.schemas import SchemaNode
from tests.contract.lint import (
    access_rules,
    client_rules,
    component_rules,
    extension_rules,
    link_rules,
    operation_rules,
    pattern_rules,
    schema_rules,
    transition_rules,
)
from tests.contract.walk import Finding

Rule: TypeAlias = Callable[[SchemaNode], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    schema_rules.strings_are_bounded,
    schema_rules.integers_are_bounded,
    schema_rules.numbers_are_bounded,
    schema_rules.arrays_are_bounded,
    schema_rules.schemas_have_one_type,
    schema_rules.objects_are_closed,
    schema_rules.request_objects_are_closed,
    pattern_rules.patterns_are_anchored,
    pattern_rules.patterns_are_linear,
    pattern_rules.patterns_have_messages,
    schema_rules.properties_have_examples,
    schema_rules.parameters_and_headers_have_examples,
    schema_rules.bodies_have_examples,
    schema_rules.examples_are_valid,
    schema_rules.required_properties_exist,
    schema_rules.response_properties_are_required,
    schema_rules.responses_have_no_alternatives,
    schema_rules.secrets_are_never_answered,
    schema_rules.resources_have_the_same_properties,
    schema_rules.pages_have_one_shape,
    operation_rules.operation_ids_are_unique_and_snake_case,
    operation_rules.operations_have_one_declared_tag,
    access_rules.security_is_stated_and_closed,
    access_rules.only_known_operations_are_public,
    access_rules.operations_are_limited,
    access_rules.rate_limits_are_well_formed,
    access_rules.returned_tries_are_limited,
    access_rules.required_scopes_are_well_formed,
    access_rules.required_sessions_are_well_formed,
    access_rules.guessing_is_limited,
    extension_rules.extensions_are_known,
    extension_rules.outdated_reads_are_for_shared_caches,
    extension_rules.narrowed_schemas_name_webhooks,
    extension_rules.attributes_can_be_read,
    extension_rules.values_have_names,
    extension_rules.names_in_maps_are_bounded,
    transition_rules.transitions_lead_to_states,
    transition_rules.actions_are_operations,
    operation_rules.statuses_are_those_that_can_be_sent,
    operation_rules.what_has_an_etag_takes_preconditions,
    operation_rules.versions_pass_proxies_unchanged,
    operation_rules.repetitions_are_answered,
    operation_rules.parameters_are_named_alike,
    operation_rules.bodies_are_required_json_objects,
    operation_rules.bodies_are_bounded,
    operation_rules.bodies_have_no_alternatives,
    operation_rules.lists_are_pages,
    link_rules.links_lead_somewhere,
    link_rules.links_reach_every_operation,
    client_rules.enums_are_named,
    client_rules.values_of_maps_are_named,
    client_rules.headers_have_no_enums,
    client_rules.request_ids_come_last,
    client_rules.parameters_are_not_types,
    client_rules.problems_have_known_codes,
    component_rules.everything_is_described,
    component_rules.operations_are_described,
    component_rules.components_are_used,
    component_rules.webhooks_are_of_known_types,
    component_rules.components_are_of_known_kinds,
    component_rules.properties_are_snake_case,
    component_rules.errors_are_shared_problems,
    component_rules.problems_are_shown_where_they_occur,
    component_rules.kinds_of_problem_are_described,
    component_rules.responses_carry_their_headers,
)
