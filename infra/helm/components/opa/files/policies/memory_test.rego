package soma.memory_test

import data.soma.memory
import future.keywords.if

grants := [{"namespaces": ["agents"], "verbs": ["store", "recall"]}]

test_a_grant_allows if memory.allow with input as {"principal": "a", "namespace": "agents", "verb": "recall", "grants": grants}

test_another_namespace_is_denied if not memory.allow with input as {"principal": "a", "namespace": "other", "verb": "recall", "grants": grants}

test_another_verb_is_denied if not memory.allow with input as {"principal": "a", "namespace": "agents", "verb": "purge", "grants": grants}

test_a_star_names_all if memory.allow with input as {"principal": "a", "namespace": "x", "verb": "purge", "grants": [{"namespaces": ["*"], "verbs": ["*"]}]}

test_nothing_is_denied if not memory.allow with input as {}

test_an_empty_principal_is_denied if not memory.allow with input as {"principal": "", "namespace": "agents", "verb": "recall", "grants": grants}

test_a_suspended_principal_is_denied if not memory.allow with input as {"principal": "a", "namespace": "agents", "verb": "recall", "grants": grants}
	with data.suspended as {"principals": ["a"]}
