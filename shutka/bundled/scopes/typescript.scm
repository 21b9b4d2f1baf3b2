; What TypeScript has more than JavaScript.
(required_parameter [(accessibility_modifier) (override_modifier) "readonly"]) @fixed
(optional_parameter [(accessibility_modifier) (override_modifier) "readonly"]) @fixed
(index_signature name: (_) @fixed)
(function_signature name: (_) @fixed)
(enum_declaration) @fixed
(internal_module) @fixed
(nested_type_identifier module: (_) @other)

(function_type parameters: (formal_parameters (_) @param)) @within
(constructor_type parameters: (formal_parameters (_) @param)) @within
(method_signature parameters: (formal_parameters (_) @param)) @within
(call_signature parameters: (formal_parameters (_) @param)) @within
(construct_signature parameters: (formal_parameters (_) @param)) @within
(function_signature parameters: (formal_parameters (_) @param)) @within
