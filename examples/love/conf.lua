-- Without a window: what is shown here is the time that a frame takes.
function love.conf(settings)
    for _, module in ipairs { "audio", "font", "graphics", "image", "joystick", "physics", "sound", "video", "window" } do
        settings.modules[module] = false
    end
end
