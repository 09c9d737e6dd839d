-- A character that thinks for two milliseconds of each frame, in LÖVE 11 through LuaJIT's FFI.
--
--     love examples/love include/ossicle.h target/release/libossicle.so MODEL.gguf [QUESTION]
--
-- Ends with 0 once the character has answered.
local ffi = require "ffi"

local FRAMES_PER_SECOND, SLICE_US = 60, 2000

local ossicle, failure, chat, turn, host, event
local frames, worst, answer = 0, 0, {}

local function demand(status)
    if status < 0 then error(ffi.string(failure.text)) end
    return status
end

-- A struct whose first field says how large it is.
local function sized(name, fields)
    local struct = ffi.new(name, fields or {})
    struct.struct_size = ffi.sizeof(name)
    return struct
end

-- The text stays valid for as long as the string is kept.
local function text_of(text)
    return ffi.new("ossicle_text", text, #text)
end

function love.load(arguments)
    local header, library, model, question = unpack(arguments)
    ossicle = require "ossicle"(header, library)
    failure = sized "ossicle_error"
    local sizes = sized("ossicle_session_config", { batch_tokens = 4, logits_rows = 4 })
    local config = sized("ossicle_chat_config", { threads = 1, session = sizes })
    local opened = ffi.new "ossicle_chat *[1]"
    demand(ossicle.ossicle_chat_open(model, config, opened, failure))
    chat = opened[0]

    question = question or "Who are you?"
    local greedy = sized("ossicle_sampler_config", { greedy = 1 })
    demand(ossicle.ossicle_chat_ask(chat, text_of(question), sized("ossicle_turn_config", { sampler = greedy }), failure))
    local turns, generations = ffi.new "ossicle_turn *[1]", ffi.new "ossicle_generation *[1]"
    host, event = sized "ossicle_host", ffi.new "const ossicle_event *[1]"
    demand(ossicle.ossicle_chat_parts(chat, generations, turns, host))
    turn = turns[0]
end

function love.update()
    local begun = love.timer.getTime()
    local status = demand(ossicle.ossicle_turn_step(turn, host, SLICE_US, failure))
    while ossicle.ossicle_turn_event(turn, event) == ossicle.OSSICLE_MORE do
        local told = event[0]
        if told.kind == ossicle.OSSICLE_EVENT_DELTA and told.message == ossicle.OSSICLE_MESSAGE_ANSWER then
            answer[#answer + 1] = ffi.string(told.text.start, told.text.size)
        end
    end
    local spent = love.timer.getTime() - begun
    frames, worst = frames + 1, math.max(worst, spent)
    if status == ossicle.OSSICLE_OK then
        ossicle.ossicle_chat_close(chat)
        print(table.concat(answer))
        io.stderr:write(("%d frames, the longest slice %.1f ms\n"):format(frames, 1000 * worst))
        love.event.quit(#answer > 0 and 0 or 1)
    end
    love.timer.sleep(math.max(0, 1 / FRAMES_PER_SECOND - spent))
end
