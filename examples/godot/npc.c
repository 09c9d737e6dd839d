/*
 * A character of a game in Godot 3: the class Npc for its scripts, by GDNative (API of 3.2). run.sh builds it.
 *
 *     open(path)            opens a GGUF file; false if that fails, and the reason is printed
 *     hear(text)            the player speaks
 *     think(microseconds)   computes for about as long, and returns what the character says meanwhile
 *     is_thinking()         whether it has more to say
 *     wish()                the argument of open_door, as JSON, once it has called that; else an empty text
 *     learn(result)         what came of it; the character goes on
 *
 * It knows one function, open_door, and thinks on the thread that calls it.
 */
#include <gdnative_api_struct.gen.h>
#include <ossicle.h>
#include <string.h>

enum { SAID_SIZE = 4096, WISH_SIZE = 512 };

static const godot_gdnative_core_api_struct *core;
static const godot_gdnative_ext_nativescript_api_struct *scripts;

typedef struct npc {
    ossicle_chat *chat;
    ossicle_generation *generation;
    ossicle_turn *turn;
    ossicle_host host;
    godot_bool is_thinking;
    char said[SAID_SIZE], wish[WISH_SIZE];
    size_t said_size, wish_size; /* of this step; of this turn */
} npc;

static ossicle_text text_of(const char *text) {
    return (ossicle_text){text, strlen(text)};
}

static const ossicle_sampler_config greedy = {.struct_size = sizeof greedy, .greedy = 1};

static ossicle_turn_config turn_config(void) {
    static ossicle_text recipient;
    recipient = text_of("functions.open_door");
    return (ossicle_turn_config){
        .struct_size = sizeof(ossicle_turn_config), .sampler = &greedy, .recipients = &recipient, .recipient_count = 1};
}

static void warn(const ossicle_error *error) {
    core->godot_print_error(error->text, "Npc", "npc.c", 0);
}

/* The next turn begins. */
static void begin(npc *npc, ossicle_text question) {
    const ossicle_turn_config config = turn_config();
    ossicle_error error = {.struct_size = sizeof error};
    npc->wish_size = 0;
    npc->is_thinking = ossicle_chat_ask(npc->chat, question, &config, &error) >= 0;
    if (!npc->is_thinking)
        warn(&error);
    else
        ossicle_chat_parts(npc->chat, &npc->generation, &npc->turn, &npc->host);
}

/* Adds a text that may be longer than there is room for: whole events, or nothing. */
static void keep(char *all, size_t *all_size, size_t most, ossicle_text text) {
    if (text.size <= most - *all_size) {
        memcpy(all + *all_size, text.start, text.size);
        *all_size += text.size;
    }
}

/* Values of Godot's. */

static godot_variant variant_of(const char *text, size_t size) {
    godot_variant variant;
    godot_string string = core->godot_string_chars_to_utf8_with_len(text, (godot_int)size);
    core->godot_variant_new_string(&variant, &string);
    core->godot_string_destroy(&string);
    return variant;
}

static godot_variant truth(godot_bool value) {
    godot_variant variant;
    core->godot_variant_new_bool(&variant, value);
    return variant;
}

/* Calls `use` with the text of a value, which is good for as long. */
static void with_text(const godot_variant *variant, npc *npc, void (*use)(struct npc *, const char *)) {
    godot_string string = core->godot_variant_as_string(variant);
    godot_char_string bytes = core->godot_string_utf8(&string);
    use(npc, core->godot_char_string_get_data(&bytes));
    core->godot_char_string_destroy(&bytes);
    core->godot_string_destroy(&string);
}

/* The methods. */

static void open_file(npc *npc, const char *path) {
    const ossicle_tool open_door = {
        .struct_size = sizeof open_door,
        .name = text_of("open_door"),
        .description = text_of("Opens a door."),
        .parameters = text_of("{\"type\": \"object\", \"properties\": {\"door\": {\"type\": \"string\", "
                              "\"description\": \"What to open.\"}}, \"required\": [\"door\"]}"),
    };
    const ossicle_developer developer = {.struct_size = sizeof developer, .tools = &open_door, .tool_count = 1};
    /* One thread, the game's own; small batches, so that no frame waits for a large one. */
    const ossicle_session_config sizes = {.struct_size = sizeof sizes, .batch_tokens = 4, .logits_rows = 4};
    const ossicle_chat_config config = {
        .struct_size = sizeof config, .threads = 1, .session = &sizes, .developer = &developer};
    ossicle_error error = {.struct_size = sizeof error};
    if (npc->chat == NULL && ossicle_chat_open(path, &config, &npc->chat, &error) < 0)
        warn(&error);
}

static void hear_text(npc *npc, const char *text) {
    begin(npc, text_of(text));
}

static void learn_text(npc *npc, const char *text) {
    const ossicle_message result = {.struct_size = sizeof result,
                                    .role = OSSICLE_ROLE_TOOL,
                                    .name = text_of("functions.open_door"),
                                    .recipient = text_of("assistant"),
                                    .channel = text_of("commentary"),
                                    .text = text_of(text)};
    ossicle_error error = {.struct_size = sizeof error};
    if (ossicle_generation_append(npc->generation, &result, 1, &error) < 0)
        warn(&error);
    else
        begin(npc, (ossicle_text){NULL, 0});
}

static godot_variant npc_open(godot_object *object, void *method, void *data, int count, godot_variant **arguments) {
    (void)object, (void)method;
    if (count == 1)
        with_text(arguments[0], data, open_file);
    return truth(((npc *)data)->chat != NULL);
}

static godot_variant npc_hear(godot_object *object, void *method, void *data, int count, godot_variant **arguments) {
    (void)object, (void)method;
    if (count == 1 && ((npc *)data)->chat != NULL)
        with_text(arguments[0], data, hear_text);
    return truth(((npc *)data)->is_thinking);
}

static godot_variant npc_learn(godot_object *object, void *method, void *data, int count, godot_variant **arguments) {
    (void)object, (void)method;
    if (count == 1 && ((npc *)data)->generation != NULL)
        with_text(arguments[0], data, learn_text);
    return truth(((npc *)data)->is_thinking);
}

static godot_variant npc_think(godot_object *object, void *method, void *data, int count, godot_variant **arguments) {
    (void)object, (void)method;
    npc *npc = data;
    npc->said_size = 0;
    if (count == 1 && npc->is_thinking) {
        ossicle_error error = {.struct_size = sizeof error};
        const uint64_t budget = (uint64_t)core->godot_variant_as_int(arguments[0]);
        const int32_t status = ossicle_turn_step(npc->turn, &npc->host, budget, &error);
        const ossicle_event *event;
        while (ossicle_turn_event(npc->turn, &event) == OSSICLE_MORE) {
            if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
                keep(npc->said, &npc->said_size, SAID_SIZE, event->text);
            if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_TOOL_CALL)
                keep(npc->wish, &npc->wish_size, WISH_SIZE, event->text);
        }
        if (status < 0)
            warn(&error);
        npc->is_thinking = status == OSSICLE_MORE;
    }
    return variant_of(npc->said, npc->said_size);
}

static godot_variant npc_is_thinking(godot_object *object, void *method, void *data, int count,
                                     godot_variant **arguments) {
    (void)object, (void)method, (void)count, (void)arguments;
    return truth(((npc *)data)->is_thinking);
}

static godot_variant npc_wish(godot_object *object, void *method, void *data, int count, godot_variant **arguments) {
    (void)object, (void)method, (void)count, (void)arguments;
    npc *npc = data;
    return variant_of(npc->wish, npc->is_thinking ? 0 : npc->wish_size);
}

/* What Godot calls by name when it loads the library. */

static void *make(godot_object *object, void *data) {
    (void)object, (void)data;
    npc *npc = core->godot_alloc(sizeof *npc);
    if (npc != NULL)
        *npc = (struct npc){.host = {.struct_size = sizeof npc->host}};
    return npc;
}

static void end(godot_object *object, void *method, void *data) {
    (void)object, (void)method;
    ossicle_chat_close(((npc *)data)->chat);
    core->godot_free(data);
}

void godot_gdnative_init(godot_gdnative_init_options *options) {
    core = options->api_struct;
    for (unsigned index = 0; index < core->num_extensions; index++)
        if (core->extensions[index]->type == GDNATIVE_EXT_NATIVESCRIPT)
            scripts = (const godot_gdnative_ext_nativescript_api_struct *)core->extensions[index];
}

void godot_gdnative_terminate(godot_gdnative_terminate_options *options) {
    (void)options;
}

void godot_nativescript_init(void *handle) {
    static const struct {
        const char *name;
        godot_variant (*method)(godot_object *, void *, void *, int, godot_variant **);
    } methods[] = {{"open", npc_open},   {"hear", npc_hear},               {"think", npc_think},
                   {"learn", npc_learn}, {"is_thinking", npc_is_thinking}, {"wish", npc_wish}};
    scripts->godot_nativescript_register_class(handle, "Npc", "Node", (godot_instance_create_func){make, NULL, NULL},
                                               (godot_instance_destroy_func){end, NULL, NULL});
    for (size_t index = 0; index < sizeof methods / sizeof *methods; index++)
        scripts->godot_nativescript_register_method(handle, "Npc", methods[index].name, (godot_method_attributes){0},
                                                    (godot_instance_method){methods[index].method, NULL, NULL});
}
