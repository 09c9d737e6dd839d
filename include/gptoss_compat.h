/*
 * The names of OpenAI's C API for gpt-oss, which exists for Metal only, over Ossicle, on any processor.
 *
 * Model, tokenizer and context are here, as gpt_oss/metal in openai/gpt-oss has them. Its sampler functions are not: they are
 * declared there and defined nowhere. Differences: the path is one that ossicle_checkpoint_open takes, not a file in the
 * format of the Metal implementation; text is tokenized exactly, where that one takes the longest token at each place; and
 * the same seed draws other tokens.
 *
 * Compile compat/gptoss_compat.c with the program, and link Ossicle with `host`. New programs use ossicle.h.
 */
#ifndef GPTOSS_COMPAT_H
#define GPTOSS_COMPAT_H

#include <stddef.h>
#include <stdint.h>

#ifndef GPTOSS_ABI
#define GPTOSS_ABI
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum gptoss_status {
    gptoss_status_success = 0,
    gptoss_status_invalid_argument = 1,
    gptoss_status_unsupported_argument = 2,
    gptoss_status_invalid_state = 3,
    gptoss_status_io_error = 4,
    gptoss_status_insufficient_memory = 5,
    gptoss_status_insufficient_resources = 6,
    gptoss_status_unsupported_system = 7,
    gptoss_status_context_overflow = 8
};

enum gptoss_special_token {
    gptoss_special_token_invalid = 0,
    gptoss_special_token_return = 1,
    gptoss_special_token_start = 2,
    gptoss_special_token_message = 3,
    gptoss_special_token_end = 4,
    gptoss_special_token_refusal = 5,
    gptoss_special_token_constrain = 6,
    gptoss_special_token_channel = 7,
    gptoss_special_token_call = 8,
    gptoss_special_token_untrusted = 9,
    gptoss_special_token_end_untrusted = 10,
    gptoss_special_token_max
};

typedef struct gptoss_model *gptoss_model_t;
typedef struct gptoss_tokenizer *gptoss_tokenizer_t;
typedef struct gptoss_context *gptoss_context_t;

/* A model. Models are used by one thread at a time: their contexts share its threads. */

enum gptoss_status GPTOSS_ABI gptoss_model_create_from_file(const char *path, gptoss_model_t *model_out);
/* The tokenizer counts as one more reference, to be released. */
enum gptoss_status GPTOSS_ABI gptoss_model_get_tokenizer(gptoss_model_t model, gptoss_tokenizer_t *tokenizer_out);
enum gptoss_status GPTOSS_ABI gptoss_model_get_max_context_length(gptoss_model_t model, size_t *max_context_length_out);
enum gptoss_status GPTOSS_ABI gptoss_model_retain(gptoss_model_t model);
enum gptoss_status GPTOSS_ABI gptoss_model_release(gptoss_model_t model);

/* Its tokenizer. Text tokens come first, special ones after them. */

enum gptoss_status GPTOSS_ABI gptoss_tokenizer_get_special_token_id(
    gptoss_tokenizer_t tokenizer, enum gptoss_special_token token_type, uint32_t *token_id_out);
enum gptoss_status GPTOSS_ABI gptoss_tokenizer_get_num_text_tokens(
    gptoss_tokenizer_t tokenizer, uint32_t *num_text_tokens_out);
enum gptoss_status GPTOSS_ABI gptoss_tokenizer_get_num_special_tokens(
    gptoss_tokenizer_t tokenizer, uint32_t *num_special_tokens_out);
enum gptoss_status GPTOSS_ABI gptoss_tokenizer_get_num_tokens(gptoss_tokenizer_t tokenizer, uint32_t *num_tokens_out);
enum gptoss_status GPTOSS_ABI gptoss_tokenizer_decode(
    gptoss_tokenizer_t tokenizer, uint32_t token_id, const void **token_ptr_out, size_t *token_size_out);
enum gptoss_status GPTOSS_ABI gptoss_tokenizer_retain(gptoss_tokenizer_t tokenizer);
enum gptoss_status GPTOSS_ABI gptoss_tokenizer_release(gptoss_tokenizer_t tokenizer);

/* A context: tokens, and what comes next. Zeros for the model's context length and for batches of 128. */

enum gptoss_status GPTOSS_ABI gptoss_context_create(
    gptoss_model_t model, size_t context_length, size_t max_batch_tokens, gptoss_context_t *context_out);
enum gptoss_status GPTOSS_ABI gptoss_context_get_num_tokens(gptoss_context_t context, size_t *num_tokens_out);
enum gptoss_status GPTOSS_ABI gptoss_context_get_max_tokens(gptoss_context_t context, size_t *max_tokens_out);
/* num_tokens_out may exceed max_tokens; as many as fit are stored. */
enum gptoss_status GPTOSS_ABI gptoss_context_get_tokens(
    gptoss_context_t context, uint32_t *tokens_out, size_t max_tokens, size_t *num_tokens_out);
/* num_tokens_out may be null. */
enum gptoss_status GPTOSS_ABI gptoss_context_append_chars(
    gptoss_context_t context, const char *text, size_t text_length, size_t *num_tokens_out);
enum gptoss_status GPTOSS_ABI gptoss_context_append_tokens(
    gptoss_context_t context, size_t num_tokens, const uint32_t *tokens);
enum gptoss_status GPTOSS_ABI gptoss_context_reset(gptoss_context_t context);
/* Computes what was appended. */
enum gptoss_status GPTOSS_ABI gptoss_context_process(gptoss_context_t context);
/* Draws up to max_tokens tokens and appends them; a token that ends a message or a turn is the last. */
enum gptoss_status GPTOSS_ABI gptoss_context_sample(gptoss_context_t context, float temperature, uint64_t seed,
                                                    size_t max_tokens, uint32_t *tokens_out, size_t *num_tokens_out);
enum gptoss_status GPTOSS_ABI gptoss_context_retain(gptoss_context_t context);
enum gptoss_status GPTOSS_ABI gptoss_context_release(gptoss_context_t context);

#ifdef __cplusplus
}
#endif

#endif
