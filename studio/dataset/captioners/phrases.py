"""Phrases the CLIP interrogator chooses from when models/interrogate holds no lists of its own."""

ARTISTS = (
    "by Albrecht Dürer, by Alphonse Mucha, by Amedeo Modigliani, by Artemisia Gentileschi, by Aubrey Beardsley, by Berthe Morisot, by Camille Pissarro, by Caravaggio, by Caspar David "
    "Friedrich, by Claude Monet, by Diego Velázquez, by Edgar Degas, by Edvard Munch, by Egon Schiele, by El Greco, by Eugène Delacroix, by Francisco Goya, by Franz Marc, by Georges "
    "Seurat, by Gustav Klimt, by Gustave Courbet, by Gustave Doré, by Henri Rousseau, by Henri de Toulouse-Lautrec, by Hieronymus Bosch, by Hilma af Klint, by Ivan Aivazovsky, by Ivan "
    "Shishkin, by Jan van Eyck, by Johannes Vermeer, by John Constable, by John Everett Millais, by John Singer Sargent, by Joseph Mallord William Turner, by Juan Gris, by Katsushika "
    "Hokusai, by Kazimir Malevich, by Leonardo da Vinci, by Mary Cassatt, by Michelangelo, by Paul Cézanne, by Paul Gauguin, by Paul Klee, by Peter Paul Rubens, by Piet Mondrian, by "
    "Pierre-Auguste Renoir, by Raphael, by Rembrandt, by Rosa Bonheur, by Sandro Botticelli, by Suzuki Harunobu, by Titian, by Utagawa Hiroshige, by Utagawa Kuniyoshi, by Vincent van "
    "Gogh, by Wassily Kandinsky, by William Blake, by William Morris, by Winslow Homer"
)
MEDIUMS = (
    "a photograph, a black and white photo, a polaroid photo, a macro photograph, a portrait photograph, an aerial photo, a film still, a screenshot, a digital painting, a digital "
    "rendering, a 3D render, a low poly render, pixel art, vector art, a comic book panel, a manga page, an anime drawing, a cartoon, a children's drawing, a storybook illustration, a "
    "book illustration, a poster, a logo, an icon, an infographic, a map, an oil painting, an acrylic painting, a watercolor painting, a gouache painting, a fresco, a mural, graffiti, a "
    "pencil sketch, a charcoal drawing, an ink drawing, a pastel, a crayon drawing, a line drawing, an etching, an engraving, a lithograph, a woodcut, a woodblock print, a linocut, a "
    "screen print, a collage, a mosaic, stained glass, a tapestry, embroidery, a cross stitch, a quilt, origami, papercraft, a marble sculpture, a bronze sculpture, a statue, a wooden "
    "carving, a ceramic, a clay figure, claymation, a puppet, a plush toy, a diorama, a hologram"
)
MOVEMENTS = (
    "abstract art, abstract expressionism, academic art, aestheticism, art brut, art deco, art nouveau, arts and crafts movement, baroque, bauhaus, byzantine art, classicism, conceptual "
    "art, constructivism, cubism, dada, expressionism, fantasy art, fauvism, folk art, futurism, gothic art, impressionism, international gothic, kinetic art, magic realism, mannerism, "
    "minimalism, modernism, naive art, neoclassicism, op art, photorealism, pointillism, pop art, post-impressionism, precisionism, pre-raphaelitism, primitivism, psychedelic art, "
    "realism, renaissance, rococo, romanticism, social realism, street art, suprematism, surrealism, symbolism, tonalism, ukiyo-e, vaporwave, cyberpunk, steampunk, retrofuturism"
)
FLAVORS = (
    "sharp focus, soft focus, shallow depth of field, bokeh, wide angle, close-up, extreme close-up, full body, upper body, from above, from below, from behind, in profile, symmetrical, "
    "centered composition, rule of thirds, tilted frame, panorama, fisheye, long exposure, motion blur, double exposure, lens flare, film grain, grainy, blurry, high contrast, low "
    "contrast, overexposed, underexposed, high key, low key, natural light, soft light, hard light, backlighting, rim light, studio lighting, candlelight, neon lights, moonlight, golden "
    "hour, blue hour, sunset, sunrise, overcast, foggy, misty, rainy, snowy, stormy sky, starry sky, at night, underwater, indoors, outdoors, in a forest, in a desert, at the beach, on "
    "a mountain, in a city street, in a garden, in a kitchen, on a white background, on a black background, on a plain background, gradient background, blurred background, transparent "
    "background, monochrome, sepia, black and white, pastel colors, muted colors, vivid colors, warm colors, cool colors, earth tones, primary colors, rainbow colors, gold and blue, red "
    "and black, teal and orange, bold outlines, clean lines, thick brush strokes, visible brushwork, flat shading, cel shading, cross-hatching, stippling, halftone, intricate details, "
    "highly detailed, ornate, minimalistic, geometric shapes, organic shapes, repeating pattern, checkered, striped, polka dots, floral pattern, smooth, rough texture, glossy, matte, "
    "metallic, transparent, furry, feathered, wooden, made of glass, made of stone, made of paper, rusty, weathered, futuristic, antique, medieval, Victorian, 1920s, 1950s, 1980s, "
    "rural, urban, industrial, cute, whimsical, funny, eerie, gloomy, dramatic, serene, cheerful, melancholic, majestic, cozy, mysterious, dreamlike, playful, elegant, chaotic, smiling, "
    "looking at the viewer, looking away, eyes closed, wearing a hat, wearing glasses, holding a flower, sitting, standing, running, flying, sleeping, food photography, product "
    "photography, wildlife photography, street photography, fashion photography, architecture, still life, landscape, seascape, cityscape, self-portrait, group portrait"
)
LISTS: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (name, tuple(dict.fromkeys(text.split(", ")))) for name, text in (("artists", ARTISTS), ("mediums", MEDIUMS), ("movements", MOVEMENTS), ("flavors", FLAVORS))
)
"""Name and phrases of each list."""
